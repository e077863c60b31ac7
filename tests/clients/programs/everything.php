<?php
// What applications do with PDO and with PHP's own functions, printed, so that two runs can be compared.
// Connection by PG* variables, which libpq reads.
set_error_handler(fn (int $_, string $said) => print("warning " . strtok($said, "\n") . "\n"));
$pdo = new PDO("pgsql:", getenv("PGUSER"), getenv("PGPASSWORD"), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
$link = pg_connect("");
function show(string $title, mixed $value): void { echo $title, " ", json_encode($value), "\n"; }

if ($argc > 1) {
    $query = $pdo->prepare($argv[1]);
    for ($id = 1; $id <= 8; $id++) { $query->execute([$id]); show("row", $query->fetchAll(PDO::FETCH_ASSOC)); }
    exit;
}
$pdo->exec("SET client_min_messages = warning");
$pdo->exec("DROP TABLE IF EXISTS php_things");
$pdo->exec("CREATE TABLE php_things (id serial PRIMARY KEY, label text NOT NULL, made date, bytes bytea, extra jsonb)");
$insert = $pdo->prepare("INSERT INTO php_things (label, made, bytes, extra) VALUES (:label, :made, :bytes, :extra) RETURNING id");
for ($n = 1; $n < 10; $n++) {
    $insert->bindValue("label", "thing $n");
    $insert->bindValue("made", "2024-02-2$n");
    $insert->bindValue("bytes", "\0\xff$n", PDO::PARAM_LOB);
    $insert->bindValue("extra", json_encode(["n" => $n]));
    $insert->execute();
    show("insert", $insert->fetchAll(PDO::FETCH_NUM));
}
show("last", $pdo->lastInsertId());
show("read", $pdo->query("SELECT id, label, made, extra FROM php_things ORDER BY id")->fetchAll(PDO::FETCH_ASSOC));
$emulated = $pdo->prepare("SELECT label FROM php_things WHERE id = ?", [PDO::ATTR_EMULATE_PREPARES => true]);
$emulated->execute([3]);
show("emulated", $emulated->fetchColumn());
foreach (["SELECT 1/0", "SELEC 1", "INSERT INTO php_things (label) VALUES (NULL)"] as $wrong) {
    try { $pdo->exec($wrong); } catch (PDOException $error) { show("error", $error->errorInfo); }
}
$pdo->beginTransaction();
$pdo->exec("DELETE FROM php_things");
$pdo->rollBack();
$pdo->pgsqlCopyFromArray("php_things", ["copied 1", "copied 2"], "\t", "\\\\N", "label");
show("copied", pg_copy_to($link, "php_things"));
show("meta", pg_meta_data($link, "php_things"));
show("params", pg_fetch_all(pg_query_params($link, "SELECT id, made FROM php_things WHERE id = ANY($1)", ["{1,2}"])));
pg_prepare($link, "by id", "SELECT label FROM php_things WHERE id = $1");
for ($n = 1; $n < 7; $n++) show("prepared", pg_fetch_result(pg_execute($link, "by id", [$n]), 0, 0));
show("inserted", pg_insert($link, "php_things", ["label" => "by name", "made" => "2024-03-01"]) !== false);
show("selected", pg_select($link, "php_things", ["label" => "by name"]));
pg_send_query($link, "SELECT 1 AS a; SELECT 2 AS b");
while ($result = pg_get_result($link)) show("several", pg_fetch_all($result));
show("notice", @pg_query($link, "DO $$ BEGIN RAISE NOTICE 'hear'; END $$") !== false ? pg_last_notice($link) : null);
$pdo->exec("DROP TABLE php_things");
