# What applications do with DBD::Pg, printed, so that two runs can be compared. Connection by PG* variables.
use strict; use warnings; use DBI;

my $db = DBI->connect("dbi:Pg:dbname=$ENV{PGDATABASE};host=$ENV{PGHOST};port=$ENV{PGPORT}", $ENV{PGUSER}, $ENV{PGPASSWORD},
    { RaiseError => 1, PrintError => 0 });
sub show { my ($title, $rows) = @_; print "$title ", join(" | ", map { join(",", map { $_ // "NULL" } @$_) } @$rows), "\n" }

if (@ARGV) {
    my $query = $db->prepare($ARGV[0]);
    for my $id (1 .. 8) { $query->execute($id); show("row", $query->fetchall_arrayref) }
    $db->disconnect;
    exit;
}
$db->do("SET client_min_messages = warning");
$db->do("DROP TABLE IF EXISTS perl_things");
$db->do("CREATE TABLE perl_things (id serial PRIMARY KEY, label text NOT NULL, made date, bytes bytea, tags text[])");
my $insert = $db->prepare("INSERT INTO perl_things (label, made, bytes, tags) VALUES (?, ?, ?, ?) RETURNING id");
$insert->bind_param(3, undef, { pg_type => DBD::Pg::PG_BYTEA() });
for my $n (1 .. 9) { $insert->execute("thing $n", "2024-02-2$n", "\0\xff$n", [ "a", "b $n" ]); show("insert", $insert->fetchall_arrayref) }
show("array", [ map { [ @{ $_->[0] } ] } @{ $db->selectall_arrayref("SELECT tags FROM perl_things ORDER BY id LIMIT 2") } ]);
show("tables", [ [ grep { /perl_/ } $db->tables(undef, "public", undef, "TABLE") ] ]);
show("columns", [ map { [ @$_[ 3, 5, 10 ] ] } @{ $db->column_info(undef, "public", "perl_things", "%")->fetchall_arrayref } ]);
show("key", [ [ $db->primary_key(undef, "public", "perl_things") ], [ $db->last_insert_id(undef, undef, "perl_things", undef) ] ]);
for my $wrong ("SELECT 1/0", "SELEC 1", "INSERT INTO perl_things (label) VALUES (NULL)") {
    eval { $db->do($wrong); 1 } or print $db->state, " ", $db->errstr, "\n";
}
$db->begin_work;
$db->do("DELETE FROM perl_things");
$db->pg_savepoint("here");
eval { $db->do("SELECT nothing") };
$db->pg_rollback_to("here");
show("deleted", $db->selectall_arrayref("SELECT count(*) FROM perl_things"));
$db->rollback;
$db->do("COPY perl_things (label) FROM STDIN");
$db->pg_putcopydata("copied $_\n") for 1 .. 3;
$db->pg_putcopyend;
$db->do("COPY (SELECT id, label FROM perl_things ORDER BY id DESC LIMIT 3) TO STDOUT (DELIMITER E'\\t', NULL E'\\\\N')");
my $line = "";
print "copied $line" while $db->pg_getcopydata(\$line) >= 0;
my $cursor = $db->prepare("DECLARE page CURSOR FOR SELECT id FROM perl_things ORDER BY id");
$db->begin_work;
$cursor->execute;
show("page", $db->selectall_arrayref("FETCH 4 FROM page")) for 1 .. 2;
$db->commit;
$db->do("LISTEN news");
$db->do("NOTIFY news, 'hello'");
my $heard = $db->pg_notifies;
print "heard $heard->[0] $heard->[2]\n";
print "ping ", $db->ping, "\n";
$db->do("DROP TABLE perl_things");
$db->disconnect;
