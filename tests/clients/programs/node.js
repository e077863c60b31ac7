// What applications do with node-postgres, printed, so that two runs can be compared. Connection by PG* variables.
const { Client, Pool } = require("pg");

const show = (title, result) => console.log(title, result.command, result.rowCount, JSON.stringify(result.rows));

async function everything(client) {
  await client.query("DROP TABLE IF EXISTS node_things");
  show("create", await client.query("CREATE TABLE node_things (id int PRIMARY KEY, label text, made date, extra jsonb)"));
  for (let n = 0; n < 20; n++) {
    const text = "INSERT INTO node_things VALUES ($1, $2, $3, $4) RETURNING id, label";
    show("insert", await client.query(text, [n, `thing ${n}`, "2024-02-29", { n }]));
  }
  const named = { name: "by-id", text: "SELECT id, label, made::text, extra FROM node_things WHERE id = $1" };
  for (let n = 0; n < 8; n++) show("named", await client.query({ ...named, values: [n] }));
  show("limited", await client.query({ text: "SELECT id FROM node_things ORDER BY id", rows: 7 }));
  const several = await client.query("SELECT 1 AS a; SELECT 2 AS b; UPDATE node_things SET label = 'x' WHERE id < 3");
  several.forEach((result) => show("several", result));
  for (const wrong of ["SELECT 1/0", "SELEC 1", "SELECT nothing FROM node_things", "INSERT INTO node_things VALUES (1)"]) {
    await client.query(wrong).catch((error) => console.log(error.code, error.message, error.position, error.detail));
  }
  await client.query({ text: "SELECT $1::int", values: ["no number"] }).catch((e) => console.log(e.code, e.message));
  const all = await Promise.all([1, 2, 3, 4].map((n) => client.query("SELECT $1::int * 2 AS doubled", [n])));
  all.forEach((result) => show("queued", result));
  await client.query("BEGIN");
  await client.query("DELETE FROM node_things");
  await client.query("ROLLBACK");
  show("kept", await client.query("SELECT count(*)::int FROM node_things"));
  await client.query("LISTEN news");
  const heard = new Promise((resolve) => client.on("notification", (n) => resolve(`${n.channel} ${n.payload}`)));
  await client.query("NOTIFY news, 'hello'");
  console.log("heard", await heard);
  show("drop", await client.query("DROP TABLE node_things"));
}

async function masked(client, query) {
  for (let n = 1; n <= 8; n++) show("row", await client.query({ name: "masked", text: query, values: [n] }));
}

async function main() {
  const client = new Client();
  await client.connect();
  await (process.argv[2] ? masked(client, process.argv[2]) : everything(client));
  await client.end();
  const pool = new Pool({ max: 3 });
  const answers = await Promise.all([1, 2, 3, 4, 5, 6].map((n) => pool.query("SELECT $1::int AS n", [n])));
  console.log("pool", answers.map((answer) => answer.rows[0].n).join(" "));
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
