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
-- transition tables do not have it, and naming it raises.
CREATE OR REPLACE FUNCTION :"schema".columns(relation oid, wish json) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(string_agg(format(CASE a.attgenerated WHEN 'v' THEN 'NULL AS %I' ELSE 'r.%I' END,
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
          FROM new_rows r;
    ELSE
        EXECUTE format(
            'INSERT INTO :"schema".log (topic, operation, new, context)
             SELECT $1, ''insert'', (SELECT row_to_json(x.*) FROM (SELECT %s) x),
                    current_setting(''pgevents.context'', true)
               FROM new_rows r',
            :"schema".columns(TG_RELID, TG_ARGV[0]::json))
        USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME;
    END IF;
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
DECLARE
    pgevents_columns text;
    pgevents_old text;
BEGIN
    IF current_setting('pgevents.capture', true) = 'off' THEN
        RETURN NULL;
    END IF;
    IF TG_NARGS = 0 THEN
        INSERT INTO :"schema".log (topic, operation, old, new, context)
        SELECT TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, 'update', o.row, n.row,
               current_setting('pgevents.context', true)
          FROM (SELECT row_number() OVER () AS place, row_to_json(r.*) AS row FROM old_rows r) o
          FULL JOIN
               (SELECT row_number() OVER () AS place, row_to_json(r.*) AS row FROM new_rows r) n
            ON n.place = o.place
         WHERE o.row::text IS DISTINCT FROM n.row::text
         ORDER BY o.place;
    ELSE
        pgevents_columns := :"schema".columns(TG_RELID, TG_ARGV[0]::json);
        pgevents_old := :"schema".columns(TG_RELID, TG_ARGV[1]::json);
        -- Compared is what is captured of both rows, kept is what was asked for.
        EXECUTE format(
            'INSERT INTO :"schema".log (topic, operation, old, new, context)
             SELECT $1, ''update'', o.kept, n.row, current_setting(''pgevents.context'', true)
               FROM (SELECT row_number() OVER () AS place,
                            (SELECT row_to_json(x.*) FROM (SELECT %1$s) x) AS row,
                            (SELECT row_to_json(x.*) FROM (SELECT %2$s) x) AS kept
                       FROM old_rows r) o
               FULL JOIN
                    (SELECT row_number() OVER () AS place,
                            (SELECT row_to_json(x.*) FROM (SELECT %1$s) x) AS row
                       FROM new_rows r) n
                 ON n.place = o.place
              WHERE o.row::text IS DISTINCT FROM n.row::text
              ORDER BY o.place',
            pgevents_columns, pgevents_old)
        USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME;
    END IF;
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
          FROM old_rows r;
    ELSE
        EXECUTE format(
            'INSERT INTO :"schema".log (topic, operation, old, context)
             SELECT $1, ''delete'', (SELECT row_to_json(x.*) FROM (SELECT %s) x),
                    current_setting(''pgevents.context'', true)
               FROM old_rows r',
            :"schema".columns(TG_RELID, TG_ARGV[1]::json))
        USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME;
    END IF;
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
BEGIN
    IF current_setting('pgevents.capture', true) = 'off' THEN
        RETURN NULL;
    END IF;
    IF TG_ARGV[0] = '' THEN
        IF TG_OP <> 'DELETE' THEN pgevents_new := row_to_json(NEW); END IF;
        IF TG_OP <> 'INSERT' THEN pgevents_old := row_to_json(OLD); END IF;
        pgevents_kept := pgevents_old;
    ELSE
        IF TG_OP <> 'DELETE' THEN
            EXECUTE format('SELECT row_to_json(x.*) FROM (SELECT %s FROM (SELECT ($1).*) r) x',
                           :"schema".columns(TG_RELID, TG_ARGV[0]::json))
            INTO pgevents_new USING NEW;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            EXECUTE format('SELECT row_to_json(x.*) FROM (SELECT %s FROM (SELECT ($1).*) r) x',
                           :"schema".columns(TG_RELID, TG_ARGV[0]::json))
            INTO pgevents_old USING OLD;
            EXECUTE format('SELECT row_to_json(x.*) FROM (SELECT %s FROM (SELECT ($1).*) r) x',
                           :"schema".columns(TG_RELID, TG_ARGV[1]::json))
            INTO pgevents_kept USING OLD;
        END IF;
    END IF;
    IF TG_OP = 'UPDATE' AND pgevents_old::text = pgevents_new::text THEN
        RETURN NULL;
    END IF;
    INSERT INTO :"schema".log (topic, operation, old, new, context)
    VALUES (TG_ARGV[2], lower(TG_OP), pgevents_kept, pgevents_new,
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

-- Ring the bell, if somebody sleeps. pg_notify() makes commits queue for a
-- lock of the whole cluster, so it is called only when a reader has announced,
-- by holding lock 2 (SLEEPERS) in share mode, that it went to sleep. Lock 1
-- (WRITERS) tells readers about writers that began before the announcement.
--
--   writer                                   reader, after an empty read
--   take WRITERS shared, until commit        take SLEEPERS shared
--   try SLEEPERS exclusive                   try WRITERS exclusive
--     got it: nobody sleeps, give it back      not got: a writer is under way that
--     not got: NOTIFY at commit                  may not have seen us: read again soon
--                                              got it: read once more, then sleep
--
-- TG_RELID is the log's own oid, so each log has its own pair of locks.
CREATE OR REPLACE FUNCTION :"schema".ring() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- IF and not PERFORM, which would start the executor for each call; a reader
    -- that tries the lock holds it for a moment only.
    IF NOT pg_try_advisory_xact_lock_shared(TG_RELID::int4, 1) THEN
        PERFORM pg_advisory_xact_lock_shared(TG_RELID::int4, 1);
    END IF;
    -- A second look, since two writers who look at the same time collide.
    IF pg_try_advisory_lock(TG_RELID::int4, 2) OR pg_try_advisory_lock(TG_RELID::int4, 2) THEN
        IF pg_advisory_unlock(TG_RELID::int4, 2) THEN
            RETURN NULL;
        END IF;
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
                                'capture_row', 'capture_truncate', 'ring'] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION :"schema".%I() FROM PUBLIC', name);
    END LOOP;
    REVOKE ALL ON FUNCTION :"schema".columns(oid, json) FROM PUBLIC;
END
$$;
