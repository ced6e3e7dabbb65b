-- SPDX-License-Identifier: Apache-2.0
-- The SQLite shell: tables, indexes, transactions, triggers, recursion, full text, JSON.
pragma journal_mode = delete;
create table items (id integer primary key, name text unique, price real, made text);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
insert into items select i, 'item ' || i, i * 1.25, date('2024-01-01', '+' || i || ' days') from n;
commit;
create index by_price on items (price);
select count(*), sum(price), max(made), avg(id) from items;
create trigger no_negative before update on items when new.price < 0
begin select raise(abort, 'negative price'); end;
update items set price = -1 where id = 5;
begin;
delete from items where id % 2 = 0;
select count(*) from items;
rollback;
select count(*) from items;
select substr(made, 1, 7) as month, count(*) from items group by month order by month limit 3;
with recursive fib(a, b) as (select 0, 1 union all select b, a + b from fib where b < 1000)
select group_concat(a, ' ') from fib;
select json_extract('{"a": [1, 2, {"b": "c"}]}', '$.a[2].b'), json_group_array(id) from items where id < 5;
create virtual table texts using fts5(body);
insert into texts values ('the quick brown fox'), ('a lazy dog'), ('the end of the fox');
select body from texts where texts match 'fox' order by rank;
select printf('%.3f|%5d|%s', 3.14159, 42, upper('text')), hex(substr(sha3('text'), 1, 4));
pragma integrity_check;
vacuum;
select count(*) from items where name like '%99%';
