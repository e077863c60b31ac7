-- Functions of users, with a digest of what each may run: its own definition and that of every function, view and
-- operator behind it. Also for psql: what it prints goes into a connection's setting `functions`.
-- Nothing here follows the reader's search_path: types by their own names, trees as they are stored.
-- FirstNormalObjectId is 16384 (src/include/access/transam.h).
WITH RECURSIVE types AS (
  SELECT t.oid, CASE WHEN n.nspname = 'pg_catalog' THEN '' ELSE n.nspname || '.' END || t.typname AS name
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
), code AS MATERIALIZED (
  SELECT 'pg_proc' AS kind, p.oid::bigint AS id, pg_catalog.lower(p.proname) AS word,
    n.nspname || '.' || p.proname || '(' || COALESCE((
      SELECT pg_catalog.string_agg(t.name, ',' ORDER BY a.place)
      FROM pg_catalog.unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a(type, place) JOIN types t ON t.oid = a.type
    ), '') || ')' AS label,
    l.lanname::text AS language,
    pg_catalog.jsonb_build_array(
      p.prokind, p.provolatile, p.prosecdef, p.proisstrict, p.proretset, l.lanname,
      (SELECT t.name FROM types t WHERE t.oid = p.prorettype), p.proargmodes::text, p.proargnames::text,
      p.proargdefaults::text, p.probin, p.proconfig::text, p.prosqlbody::text, p.prosrc, made.names, made.start
    )::text AS definition,
    CASE WHEN l.lanname NOT IN ('c', 'internal') THEN
      pg_catalog.lower(pg_catalog.concat_ws(' ', p.prosrc, made.names)) END AS names,
    p.prosrc AS source,
    l.lanname IN ('c', 'internal') OR EXISTS (
      SELECT FROM pg_catalog.unnest(p.proconfig) AS c(setting)
      WHERE c.setting ~ '^search_path=.*, *"?pg_temp"?$' AND c.setting !~ 'pg_temp.*pg_temp|[$]user'
    ) AS fixed,
    p.prosqlbody IS NOT NULL AS resolved
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    LEFT JOIN LATERAL (
      SELECT pg_catalog.string_agg(f.proname, ' ' ORDER BY f.proname) AS names, pg_catalog.min(g.agginitval) AS start
      FROM pg_catalog.pg_aggregate g JOIN pg_catalog.pg_proc f ON f.oid IN (
        g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn,
        g.aggmfinalfn)
      WHERE g.aggfnoid = p.oid
    ) AS made ON true
  WHERE p.oid >= 16384 AND n.nspname !~ '^pg_(toast_)?temp_'
  UNION ALL
  SELECT 'pg_class', c.oid::bigint, pg_catalog.lower(c.relname), n.nspname || '.' || c.relname, '',
    r.ev_action::text, NULL, NULL, true, true
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid AND r.rulename = '_RETURN'
  WHERE c.oid >= 16384 AND n.nspname !~ '^pg_(toast_)?temp_'
  UNION ALL
  SELECT 'pg_operator', o.oid::bigint, o.oprname, n.nspname || '.' || o.oprname, '',
    pg_catalog.jsonb_build_array(
      (SELECT t.name FROM types t WHERE t.oid = o.oprleft), (SELECT t.name FROM types t WHERE t.oid = o.oprright),
      f.proname)::text,
    pg_catalog.lower(f.proname), NULL, true, true
  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
    JOIN pg_catalog.pg_proc f ON f.oid = o.oprcode
  WHERE o.oid >= 16384
), edges AS MATERIALIZED (
  SELECT a.kind, a.id, b.kind AS to_kind, b.id AS to_id
  FROM code a JOIN code b ON a.names IS NOT NULL AND pg_catalog.strpos(a.names, b.word) > 0
  UNION
  SELECT CASE WHEN r.oid IS NULL THEN 'pg_proc' ELSE 'pg_class' END, COALESCE(r.ev_class, d.objid)::bigint,
    CASE d.refclassid WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN 'pg_proc'
      WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN 'pg_class' ELSE 'pg_operator' END,
    d.refobjid::bigint
  FROM pg_catalog.pg_depend d
    LEFT JOIN pg_catalog.pg_rewrite r
      ON r.oid = d.objid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.rulename = '_RETURN'
  WHERE d.refobjid >= 16384
    AND (r.oid IS NOT NULL OR d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass)
    AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass,
      'pg_catalog.pg_operator'::pg_catalog.regclass)
), reached AS (
  SELECT c.id AS root, c.kind, c.id FROM code c WHERE c.kind = 'pg_proc' AND /* which */ true
  UNION
  SELECT r.root, e.to_kind, e.to_id FROM reached r JOIN edges e ON e.kind = r.kind AND e.id = r.id
)
SELECT own.id, own.label, own.language,
  pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
    pg_catalog.jsonb_build_array(own.label, own.definition, others.definitions)::text, 'UTF8')), 'hex') AS digest,
  own.fixed OR own.resolved AND others.fixed AS fixed,
  own.source
FROM code own JOIN (
  SELECT r.root, pg_catalog.bool_and(c.fixed OR c.resolved) AS fixed,
    pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(c.kind, c.label, c.definition)
      ORDER BY c.kind, c.label COLLATE "C", c.definition COLLATE "C") AS definitions
  FROM reached r JOIN code c ON c.kind = r.kind AND c.id = r.id
  GROUP BY r.root
) AS others ON others.root = own.id
WHERE own.kind = 'pg_proc'
ORDER BY own.label
