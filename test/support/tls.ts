// A key and a certificate for localhost that nobody vouches for, valid for a hundred years. For tests of what must not trust it.

export const untrusted = {
  key: `
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgLtZDPfB6mBD7Qd15
UmjjF843ODaiPfdkahH69bHyN0ChRANCAAS/EMwnREla1eZPvGTS+Fn+rz2v0t0J
7knV+OQDvI/Yq0w6QTJ2bQe7QhxWmzYk/DSW68MyiohU4yrfl1MW+6Gu
-----END PRIVATE KEY-----
`,
  cert: `
-----BEGIN CERTIFICATE-----
MIIBfTCCASWgAwIBAgIUV6iZuLP7+elYkKpXK6QOdKmqvm8wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzA0MDM1MFoYDzIxMjYxMDMw
MDQwMzUwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAS/EMwnREla1eZPvGTS+Fn+rz2v0t0J7knV+OQDvI/Yq0w6QTJ2bQe7
QhxWmzYk/DSW68MyiohU4yrfl1MW+6Guo1MwUTAdBgNVHQ4EFgQUDRw8UPkd/qcf
sJ9bKR9p2yJdxukwHwYDVR0jBBgwFoAUDRw8UPkd/qcfsJ9bKR9p2yJdxukwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNGADBDAiBWN7KToxJYhmG8ETsZ75xo
JhAycj08EC1OwpJaHE18jwIfT6WgqCmP9UGmo+YVnCXOqtHERVdEr9hFLEvfEGg3
BA==
-----END CERTIFICATE-----
`,
}
