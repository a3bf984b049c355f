-- What runs inside the writers' transactions. Safe to run twice. :"schema" is
-- replaced by the log's schema; `pgevents sql` prints the result for psql.
--
-- A write must never fail because of what stands here, so
--   * no function names a column of the application: row_to_json(r.*) takes
--     the row as it is now (not row_to_json(r): that is a *column* r, where
--     the table has one);
--   * variables win over columns of the same name (#variable_conflict), since
--     a table may have a column called tg_op;
--   * nothing looks inside the JSON: ->> and json_each() raise on \u0000;
--   * rows are compared as text: json, xml and point have no equality;
--   * the settings that change how values are written are pinned, so that a
--     writer's DateStyle, TimeZone or bytea_output does not reach the log;
--   * the functions run with the rights of who installed them: the writer
--     needs none on the log.

-- The columns of a table as they are at this moment, as a list for SELECT.
-- wish: {"include": [...] or null, "exclude": [...], "keys": true or false};
-- with "keys" only the primary key's. Asked of the catalog on each call, so a
-- renamed or dropped column breaks nothing. A virtual generated column is null:
-- transition tables do not have it, and naming it raises. With as_text, types
-- that are not PostgreSQL's own (the first oid is 16384) are cast to text.
CREATE OR REPLACE FUNCTION :"schema".columns(relation oid, wish json, as_text boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(string_agg(format(CASE WHEN a.attgenerated = 'v' THEN 'NULL AS %1$I'
                                           WHEN as_text AND a.atttypid >= 16384
                                           THEN 'r.%1$I::text AS %1$I'
                                           ELSE 'r.%1$I' END,
                                      a.attname), ', ' ORDER BY a.attnum), '')
      FROM pg_attribute a
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
       AND (wish->'include' IS NULL OR json_typeof(wish->'include') = 'null'
            OR a.attname IN (SELECT json_array_elements_text(wish->'include')))
       AND (json_typeof(wish->'exclude') IS DISTINCT FROM 'array'
            OR a.attname NOT IN (SELECT json_array_elements_text(wish->'exclude')))
       AND ((wish->>'keys') IS DISTINCT FROM 'true'
            OR EXISTS (SELECT FROM pg_index i
                        WHERE i.indrelid = relation AND i.indisprimary
                          AND a.attnum = ANY (i.indkey)))
$$;

-- A row as JSON, or NULL where that cannot be: it is too large, or a type's own
-- cast to json fails, as PostGIS's does for curves. An old and a new row have to
-- fit into one row of the log, which ends at 1 GB.
CREATE OR REPLACE FUNCTION :"schema".careful(given record) RETURNS json
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    whole json;
BEGIN
    whole := row_to_json(given);
    RETURN CASE WHEN octet_length(whole::text) <= 200000000 THEN whole END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;

-- SQL for the JSON of a row r: what the wish says of it; NULL if it is too large.
-- "careful": true in the wish is for tables with a type that has its own cast.
CREATE OR REPLACE FUNCTION :"schema".row_sql(relation oid, wish json) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN (wish->>'careful') = 'true' THEN
               format('(SELECT coalesce(:"schema".careful(x.*), (
                            SELECT :"schema".careful(y.*) FROM (SELECT %s) y)) FROM (SELECT %s) x)',
                      :"schema".columns(relation, wish, true),
                      :"schema".columns(relation, wish, false))
           ELSE
               format('(SELECT CASE WHEN pg_column_size(x.*) <= 250000 THEN row_to_json(x.*)
                                    ELSE :"schema".careful(x.*) END FROM (SELECT %s) x)',
                      :"schema".columns(relation, wish, false))
           END
$$;

-- The four functions that follow have a quick way, by a statement whose plan is
-- kept, for whole rows (TG_NARGS = 0) of up to 250,000 bytes: even if these were
-- compressed 255 times and each character became \u0001, that is safe. What the
-- quick way meets of larger rows it leaves, saying so in a setting, to the
-- careful way. That one tells a row by its key if it cannot tell it whole.

CREATE OR REPLACE FUNCTION :"schema".capture_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
SET lc_monetary = 'C'
AS $$
#variable_conflict use_variable
BEGIN
    IF current_setting('pgevents.capture', true) = 'off' THEN
        RETURN NULL;
    END IF;
    IF TG_NARGS = 0 THEN
        INSERT INTO :"schema".log (topic, operation, new, context)
        SELECT TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, 'insert', row_to_json(r.*),
               current_setting('pgevents.context', true)
          FROM new_rows r
         WHERE pg_column_size(r.*) <= 250000 OR set_config('pgevents.large', 'on', true) IS NULL;
        IF current_setting('pgevents.large', true) IS DISTINCT FROM 'on' THEN
            RETURN NULL;
        END IF;
    END IF;
    EXECUTE format(
        'INSERT INTO :"schema".log (topic, operation, new, context)
         SELECT $1, ''insert'', coalesce(%s, %s), current_setting(''pgevents.context'', true)
           FROM new_rows r
          WHERE $2 OR pg_column_size(r.*) > 250000',
        :"schema".row_sql(TG_RELID, coalesce(TG_ARGV[0], '{}')::json),
        :"schema".row_sql(TG_RELID, '{"keys": true}'))
    USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, TG_NARGS > 0;
    PERFORM set_config('pgevents.large', 'off', true);
    RETURN NULL;
END
$$;

-- Old and new rows are paired by their place in the two transition tables, not
-- by key: keys change, and some tables have none. FULL JOIN, because it is never
-- a nested loop: a session keeps the plan of its first update, of one row
-- perhaps, and the next may be of a million.
CREATE OR REPLACE FUNCTION :"schema".capture_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
SET lc_monetary = 'C'
AS $$
#variable_conflict use_variable
BEGIN
    IF current_setting('pgevents.capture', true) = 'off' THEN
        RETURN NULL;
    END IF;
    IF TG_NARGS = 0 THEN
        INSERT INTO :"schema".log (topic, operation, old, new, context)
        SELECT TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, 'update', o.row, n.row,
               current_setting('pgevents.context', true)
          FROM (SELECT row_number() OVER () AS place,
                       CASE WHEN pg_column_size(r.*) <= 250000 THEN row_to_json(r.*) END AS row
                  FROM old_rows r) o
          FULL JOIN
               (SELECT row_number() OVER () AS place,
                       CASE WHEN pg_column_size(r.*) <= 250000 THEN row_to_json(r.*) END AS row
                  FROM new_rows r) n
            ON n.place = o.place
         WHERE CASE WHEN o.row IS NULL OR n.row IS NULL
                    THEN set_config('pgevents.large', 'on', true) IS NULL
                    ELSE o.row::text <> n.row::text END
         ORDER BY o.place;
        IF current_setting('pgevents.large', true) IS DISTINCT FROM 'on' THEN
            RETURN NULL;
        END IF;
    END IF;
    -- Compared is what is captured of both rows, kept is what was asked for. What
    -- cannot be compared is told.
    EXECUTE format(
        'INSERT INTO :"schema".log (topic, operation, old, new, context)
         SELECT $1, ''update'', o.kept, coalesce(n.row, n.key),
                current_setting(''pgevents.context'', true)
           FROM (SELECT row_number() OVER () AS place, pg_column_size(r.*) > 250000 AS large,
                        %1$s AS row, coalesce(%2$s, %3$s) AS kept
                   FROM old_rows r) o
           FULL JOIN
                (SELECT row_number() OVER () AS place, pg_column_size(r.*) > 250000 AS large,
                        %1$s AS row, %3$s AS key
                   FROM new_rows r) n
             ON n.place = o.place
          WHERE ($2 OR o.large OR n.large)
            AND (n.row IS NULL OR o.row::text IS DISTINCT FROM n.row::text)
          ORDER BY o.place',
        :"schema".row_sql(TG_RELID, coalesce(TG_ARGV[0], '{}')::json),
        :"schema".row_sql(TG_RELID, coalesce(TG_ARGV[1], '{}')::json),
        :"schema".row_sql(TG_RELID, '{"keys": true}'))
    USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, TG_NARGS > 0;
    PERFORM set_config('pgevents.large', 'off', true);
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION :"schema".capture_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
SET lc_monetary = 'C'
AS $$
#variable_conflict use_variable
BEGIN
    IF current_setting('pgevents.capture', true) = 'off' THEN
        RETURN NULL;
    END IF;
    IF TG_NARGS = 0 THEN
        INSERT INTO :"schema".log (topic, operation, old, context)
        SELECT TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, 'delete', row_to_json(r.*),
               current_setting('pgevents.context', true)
          FROM old_rows r
         WHERE pg_column_size(r.*) <= 250000 OR set_config('pgevents.large', 'on', true) IS NULL;
        IF current_setting('pgevents.large', true) IS DISTINCT FROM 'on' THEN
            RETURN NULL;
        END IF;
    END IF;
    EXECUTE format(
        'INSERT INTO :"schema".log (topic, operation, old, context)
         SELECT $1, ''delete'', coalesce(%s, %s), current_setting(''pgevents.context'', true)
           FROM old_rows r
          WHERE $2 OR pg_column_size(r.*) > 250000',
        :"schema".row_sql(TG_RELID, coalesce(TG_ARGV[1], '{}')::json),
        :"schema".row_sql(TG_RELID, '{"keys": true}'))
    USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, TG_NARGS > 0;
    PERFORM set_config('pgevents.large', 'off', true);
    RETURN NULL;
END
$$;

-- Partitioned tables and partitions allow no transition tables on triggers
-- that are to see a write into any partition, so these get one call per row.
-- TG_ARGV[2] is the topic: the watched table's, not the partition's.
CREATE OR REPLACE FUNCTION :"schema".capture_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
SET lc_monetary = 'C'
AS $$
#variable_conflict use_variable
DECLARE
    pgevents_new json;
    pgevents_old json;
    pgevents_kept json;
    pgevents_key text;
    pgevents_new_key json;
BEGIN
    IF current_setting('pgevents.capture', true) = 'off' THEN
        RETURN NULL;
    END IF;
    IF TG_ARGV[0] = '{}' AND TG_ARGV[1] = '{}'
       AND (TG_OP = 'DELETE' OR pg_column_size(NEW.*) <= 250000)
       AND (TG_OP = 'INSERT' OR pg_column_size(OLD.*) <= 250000) THEN
        IF TG_OP <> 'DELETE' THEN pgevents_new := row_to_json(NEW); END IF;
        IF TG_OP <> 'INSERT' THEN pgevents_old := row_to_json(OLD); END IF;
        pgevents_kept := pgevents_old;
    ELSE
        pgevents_key := :"schema".row_sql(TG_RELID, '{"keys": true}');
        IF TG_OP <> 'DELETE' THEN
            EXECUTE format('SELECT %s, %s FROM (SELECT ($1).*) r',
                           :"schema".row_sql(TG_RELID, TG_ARGV[0]::json), pgevents_key)
            INTO pgevents_new, pgevents_new_key USING NEW;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            EXECUTE format('SELECT %s, coalesce(%s, %s) FROM (SELECT ($1).*) r',
                           :"schema".row_sql(TG_RELID, TG_ARGV[0]::json),
                           :"schema".row_sql(TG_RELID, TG_ARGV[1]::json), pgevents_key)
            INTO pgevents_old, pgevents_kept USING OLD;
        END IF;
    END IF;
    IF TG_OP = 'UPDATE' AND pgevents_old::text = pgevents_new::text THEN
        RETURN NULL;
    END IF;
    INSERT INTO :"schema".log (topic, operation, old, new, context)
    VALUES (TG_ARGV[2], lower(TG_OP), pgevents_kept, coalesce(pgevents_new, pgevents_new_key),
            current_setting('pgevents.context', true));
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION :"schema".capture_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('pgevents.capture', true) IS DISTINCT FROM 'off' THEN
        INSERT INTO :"schema".log (topic, operation, context)
        VALUES (TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, 'truncate',
                current_setting('pgevents.context', true));
    END IF;
    RETURN NULL;
END
$$;

-- A partition was truncated, and the watched table it belongs to was not: its rows are gone
-- without an event each. TG_ARGV[0] is that table's topic. Such a row has a topic that nobody
-- listens to, and says in "new" which partition it was; readers report a gap. Where the whole
-- table was truncated just before, or the partition was detached since, there is nothing to say.
-- Not capture_...: 0.1 would take such a trigger from a table that nobody watches.
CREATE OR REPLACE FUNCTION :"schema".partition_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('pgevents.capture', true) IS DISTINCT FROM 'off'
       AND EXISTS (
           WITH RECURSIVE parents (oid) AS (
               SELECT inhparent FROM pg_inherits WHERE inhrelid = TG_RELID
                UNION
               SELECT i.inhparent FROM parents p JOIN pg_inherits i ON i.inhrelid = p.oid)
           SELECT FROM parents JOIN pg_class c USING (oid) JOIN pg_namespace n
               ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = TG_ARGV[0])
       AND (SELECT l.operation FROM :"schema".log l
             WHERE l.xid = pg_current_xact_id() AND l.topic = TG_ARGV[0]
             ORDER BY l.xid DESC, l.seq DESC LIMIT 1) IS DISTINCT FROM 'truncate' THEN
        INSERT INTO :"schema".log (topic, operation, new)
        VALUES ('partition:' || TG_ARGV[0], 'truncate',
                json_build_object('partition', TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME));
    END IF;
    RETURN NULL;
END
$$;

-- Ring the bell, if somebody sleeps. pg_notify() makes commits queue for a
-- lock of the whole cluster, so it is called only when a reader has announced,
-- by holding lock 2 (SLEEPERS) in share mode, that it went to sleep. Lock 1
-- (WRITERS) tells readers about writers that began before the announcement.
--
--   writer                                   reader, after an empty read
--   try WRITERS shared, until commit         try SLEEPERS shared
--     not got: NOTIFY at commit                not got: read again soon
--   try SLEEPERS exclusive                   try WRITERS exclusive
--     got it: nobody sleeps, give it back      not got: a writer is under way that
--     not got: NOTIFY at commit                  may not have seen us: read again soon
--                                              got it: read once more, then sleep
--
-- Nobody waits: any role may hold these locks for as long as it likes. Who notifies
-- needs neither, since all readers LISTEN.
--
-- TG_RELID is the log's own oid, so each log has its own pair of locks.
CREATE OR REPLACE FUNCTION :"schema".ring() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- IF and not PERFORM, which would start the executor for each call. Each lock is
    -- tried twice: a reader that tries WRITERS holds it for an instant only, and so
    -- does a writer SLEEPERS. Taken and given back in one expression: a statement
    -- that is cancelled ends between two lines, and the lock would stay with the session.
    IF (pg_try_advisory_xact_lock_shared(TG_RELID::int4, 1)
        OR pg_try_advisory_xact_lock_shared(TG_RELID::int4, 1))
       AND (CASE WHEN pg_try_advisory_lock(TG_RELID::int4, 2)
                      OR pg_try_advisory_lock(TG_RELID::int4, 2)
                 THEN pg_advisory_unlock(TG_RELID::int4, 2) ELSE false END) THEN
        RETURN NULL;
    ELSIF TG_ARGV[0] = 'on'
          AND current_setting('pgevents.bell', true) IS DISTINCT FROM 'off'
          -- A full queue would make COMMIT fail; readers look by themselves, too.
          AND pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('pgevents_' || TG_RELID, '');
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['capture_insert', 'capture_update', 'capture_delete',
                                'capture_row', 'capture_truncate', 'partition_truncated',
                                'ring'] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION :"schema".%I() FROM PUBLIC', name);
    END LOOP;
END
$$;
