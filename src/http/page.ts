// The headers of a page of search results.

/** How many there are in all, and where the next page starts; the latter only when there is one. */
export function pageHeaders(total: number, page: { offset: number }, rows: readonly unknown[]): Record<string, string> {
  const next = page.offset + rows.length
  const headers = { 'X-Pagination-Total': String(total) }
  return rows.length > 0 && next < total ? { ...headers, 'X-Pagination-Next': String(next) } : headers
}
