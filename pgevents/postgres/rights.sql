-- Who may use what functions.sql has made. Safe to run twice.

-- Default privileges may have given rights to anybody, and a dump that was restored
-- without privileges has given EXECUTE to everybody. A table that is new has no grant that
-- somebody has made for it.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT p.oid::regprocedure AS name, (aclexplode(
                   coalesce(proacl, acldefault('f', proowner)))).grantee, proowner,
               proname = ANY (':publishing')
                   AND proname <> ALL (current_setting('pgevents.fresh')::text[]) AS granted
          FROM pg_proc p
         WHERE pronamespace = ':"schema"'::regnamespace AND proname = ANY (':functions')
    LOOP
        IF found.grantee = 0 THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC CASCADE', found.name);
        ELSIF found.grantee <> found.proowner AND NOT found.granted THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I CASCADE', found.name,
                           pg_get_userbyid(found.grantee));
        END IF;
    END LOOP;
    FOR found IN
        SELECT c.oid::regclass AS name, relname, relowner, a.grantee,
               string_agg(a.privilege_type, ', ') AS rights
          FROM pg_class c, aclexplode(relacl) a
         WHERE relnamespace = ':"schema"'::regnamespace AND relname = ANY (':tables')
           AND a.grantee <> relowner
           AND (a.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
                OR relname = ANY (current_setting('pgevents.fresh')::text[]))
         GROUP BY 1, 2, 3, 4
    LOOP
        EXECUTE format('REVOKE %s ON %s FROM %s CASCADE', found.rights, found.name,
                       CASE WHEN found.grantee = 0 THEN 'PUBLIC'
                            ELSE quote_ident(pg_get_userbyid(found.grantee)) END);
    END LOOP;
    FOR found IN
        SELECT a.grantee FROM pg_namespace, aclexplode(nspacl) a
         WHERE oid = ':"schema"'::regnamespace AND grantee <> nspowner
           AND privilege_type = 'CREATE'
    LOOP
        EXECUTE format('REVOKE CREATE ON SCHEMA :"schema" FROM %s CASCADE',
                       CASE WHEN found.grantee = 0 THEN 'PUBLIC'
                            ELSE quote_ident(pg_get_userbyid(found.grantee)) END);
    END LOOP;
END
$$;

-- What somebody has given away goes back to the schema's owner: the functions run as their
-- owner, who has to have the right to write the log. A role that was made for them keeps them.
DO $$
DECLARE
    log pg_class := (SELECT c FROM pg_class c WHERE oid = ':"schema".log'::regclass);
    keeper oid := (SELECT nspowner FROM pg_namespace WHERE oid = log.relnamespace);
    runner oid := (SELECT proowner FROM pg_proc
                    WHERE pronamespace = log.relnamespace AND proname = 'capture_insert');
    faults text;
    found record;
BEGIN
    IF NOT pg_has_role(runner, keeper, 'MEMBER')
       AND NOT EXISTS (SELECT FROM pg_auth_members WHERE roleid = runner AND member = keeper) THEN
        runner := keeper;
    END IF;
    FOR found IN
        SELECT oid::regclass AS name FROM pg_class
         WHERE relnamespace = log.relnamespace AND relname = ANY (':tables') AND relkind = 'r'
           AND relowner <> keeper AND NOT pg_has_role(relowner, keeper, 'MEMBER')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', found.name, pg_get_userbyid(keeper));
    END LOOP;
    IF :owner IS NOT NULL THEN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :owner) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', :owner);
        END IF;
        runner := (SELECT oid FROM pg_roles WHERE rolname = :owner);
    END IF;
    -- Who could become that role could change the functions, which run at each write. Somebody
    -- may have made it before us.
    IF runner <> keeper AND (:owner IS NOT NULL OR NOT pg_has_role(runner, keeper, 'MEMBER')) THEN
        faults := (SELECT string_agg(sentence, '; ') FROM (:open) o);
        IF faults IS NOT NULL THEN
            RAISE invalid_authorization_specification USING MESSAGE = faults
                || '; or choose a role that is not there yet';
        END IF;
    END IF;
    IF :owner IS NOT NULL THEN
        IF runner <> keeper AND NOT (
               pg_has_role(keeper, runner, 'USAGE')
               AND EXISTS (SELECT FROM pg_auth_members
                            WHERE roleid = runner AND member = keeper)) THEN
            EXECUTE format('GRANT %I TO %I', :owner, pg_get_userbyid(keeper));
        END IF;
    END IF;
    IF runner <> keeper THEN
        -- An owner to be needs CREATE for a moment.
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA :"schema" TO %I', pg_get_userbyid(runner));
        EXECUTE format('GRANT SELECT, INSERT ON :"schema".log, :"schema".delayed, :"schema".ids'
                       ' TO %I', pg_get_userbyid(runner));
    END IF;
    -- Of a role that was made for them it owns what runs with its rights, and no more.
    FOR found IN
        SELECT p.oid::regprocedure AS name, f.owner
          FROM pg_proc p, LATERAL (
               SELECT CASE WHEN prosecdef OR pg_has_role(runner, keeper, 'MEMBER')
                           THEN runner ELSE keeper END AS owner) f
         WHERE pronamespace = log.relnamespace AND proname = ANY (':functions')
           AND proowner <> f.owner
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', found.name,
                       pg_get_userbyid(found.owner));
    END LOOP;
    IF runner <> keeper THEN
        EXECUTE format('REVOKE CREATE ON SCHEMA :"schema" FROM %I', pg_get_userbyid(runner));
    END IF;
END
$$;

-- Who may write the log may call what a backfill and the triggers call, and publish; what makes a
-- trigger is its owner's alone.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT p.oid::regprocedure AS name, a.grantee
          FROM pg_proc p, pg_class c, aclexplode(relacl) a
         WHERE pronamespace = ':"schema"'::regnamespace AND proname = ANY (':helpers'::text[] || ':publishing'::text[])
           AND c.oid = ':"schema".log'::regclass AND a.privilege_type = 'INSERT'
           AND a.grantee NOT IN (0, relowner, proowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', found.name,
                       pg_get_userbyid(found.grantee));
    END LOOP;
END
$$;
