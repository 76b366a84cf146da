-- States are large and written anew all the time: where the server has a compression that costs a third, they take that one.
do $$ begin
  execute 'alter table threads alter column "values" set compression lz4';
  execute 'alter table events alter column batch set compression lz4';
exception when feature_not_supported or syntax_error then null;
end $$;
