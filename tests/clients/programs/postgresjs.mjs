// What applications do with Postgres.js, printed, so that two runs can be compared. Connection by PG* variables.
// It sends Parse, Describe and Flush at once, pipelines what is asked at once, and reads cursors by portal.
import { createRequire } from "node:module";
const postgres = createRequire(process.env.NODE_PATH + "/")("postgres");
const sql = postgres({ max: 2, onnotice: (notice) => console.log("notice", notice.message) });
const show = (title, rows) => console.log(title, rows.command, rows.count, JSON.stringify(rows));

if (process.argv[2]) {
  for (let id = 1; id <= 8; id++) show("row", await sql.unsafe(process.argv[2], [id], { prepare: true }));
} else {
  await sql`SET client_min_messages = warning`;
  await sql`DROP TABLE IF EXISTS js_things`;
  await sql`CREATE TABLE js_things (id int PRIMARY KEY, label text, tags text[], extra jsonb)`;
  const things = Array.from({ length: 40 }, (_, n) => ({ id: n, label: `thing ${n}`, tags: ["a", `b ${n}`], extra: { n } }));
  show("insert", await sql`INSERT INTO js_things ${sql(things)} RETURNING id`);
  const asked = await Promise.all(things.map(({ id }) => sql`SELECT label, tags, extra FROM js_things WHERE id = ${id}`));
  asked.forEach((rows) => show("pipelined", rows));
  show("in", await sql`SELECT id FROM js_things WHERE id IN ${sql([1, 2, 3])} ORDER BY id`);
  for await (const rows of sql`SELECT id FROM js_things ORDER BY id`.cursor(15)) console.log("cursor", rows.length);
  await sql`SELECT id FROM js_things ORDER BY id`.forEach(({ id }) => console.log("each", id));
  for (const wrong of ["SELECT 1/0", "SELEC 1", "INSERT INTO js_things VALUES (1)"]) {
    await sql.unsafe(wrong).catch((error) => console.log(error.code, error.message, error.position, error.detail));
  }
  const told = await sql.begin(async (block) => {
    await block`DELETE FROM js_things WHERE id > 5`;
    await block.savepoint(async (inner) => inner`SELECT nothing`).catch((error) => console.log("savepoint", error.code));
    return block`SELECT count(*)::int FROM js_things`;
  });
  show("block", told);
  show("described", (await sql`SELECT id, label FROM js_things`.describe()).columns.map((column) => column.name));
  let copied = "";
  for await (const chunk of await sql`COPY (SELECT id, label FROM js_things ORDER BY id) TO STDOUT`.readable()) copied += chunk;
  console.log(copied);
  show("several", await sql`SELECT 1 AS a; SELECT 2 AS b`.simple());
  const heard = new Promise((resolve) => sql.listen("news", resolve).then(() => sql.notify("news", "hello")));
  console.log("heard", await heard);
  await sql`DROP TABLE js_things`;
}
await sql.end();
