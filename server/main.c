/* main.c: the command table, and the one place that turns an error into an exit status.
 *
 * A command is a row: name, what it takes, one line of help, a function. The function reads its options from the table in option_table.c
 * and returns 0, or -1 with an error whose message is whole; main prints it behind the command's name and exits with the sysexits status
 * of its code. --help is derived from both tables. */
#include "cli.h"
#include "server.h"
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static int help_run(const struct options *o, struct err *e);

static const struct command commands[] = {
    {"serve", CMD_SERVE, "Serving", "--model BUNDLE --catalog FILE [--listen HOST:PORT]",
     "answer searches, recommendations and index requests over HTTP",
     "Prints `listening on http://HOST:PORT` when the socket is open; /readyz is 200 when the model is loaded. SIGTERM drains.", serve_run},
    {"index", CMD_INDEX, "Serving", "--model BUNDLE --catalog FILE --data FILE|DIR",
     "index JSON lines of documents into a catalogue (no daemon running)",
     "A line is {\"id\" or \"_id\", \"title\"?, \"text\"?, \"attributes\"?, \"semantic_id\"?, \"embedding\"?}; other members become attributes. A folder "
     "stands for its\n"
     "corpus.jsonl or items.jsonl.",
     cli_index},
    {"search", CMD_SEARCH, "Serving", "--model BUNDLE --catalog FILE QUERY...", "answer one query on the command line", NULL, cli_search},
    {"recommend", CMD_RECOMMEND, "Serving", "--model BUNDLE --catalog FILE ID...", "recommend after a history of ids, oldest first", NULL,
     cli_recommend},
    {"import", CMD_IMPORT, "Learning", "DIR [--codes FILE --ids FILE] --out BUNDLE", "make a bundle from a Hugging Face T5 folder", NULL,
     cli_import},
    {"tokenizer", CMD_TOKENIZER, "Learning", "--data DIR --out FILE", "train a SentencePiece model on a corpus", NULL, cli_tokenizer},
    {"pretrain", CMD_PRETRAIN, "Learning", "--data DIR --out BUNDLE [--base BUNDLE]", "train a T5 on a corpus' own texts (span corruption), to start from",
     "The bundle is then the --base of learn-ids and train. A stopped run goes on where it was when started again with the same options.",
     cli_pretrain},
    {"learn-ids", CMD_LEARN, "Learning", "--data DIR --model BUNDLE", "learn semantic IDs of a corpus and write a bundle",
     "BUNDLE is written; --out is another name for it. A stopped run goes on where it was when started again with the same options.",
     cli_learn},
    {"train", CMD_TRAIN, "Learning", "search|recommend|queries --model BUNDLE --data DIR",
     "add a search, recommendation or query-writing model to a bundle",
     "queries learns to write queries from the folder's training queries, or from cut ones. search takes what `semindex queries` wrote, or a file of\n"
     "one's own, by --queries FILE,..: lines {\"_id\": document id, \"query\": text}.",
     cli_train},
    {"queries", CMD_QUERIES, "Learning", "--model BUNDLE --data DIR --out FILE.jsonl", "write pseudo-queries for every document (docT5query)",
     "By the bundle's part queries (train queries), else its base (import). A line is {\"_id\": document id, \"sample\": number, \"query\": text}; a\n"
     "document's queries that differ in case and spaces alone are written once, and one without text gets none. A stopped run (FILE.part) goes on\n"
     "when started again; a FILE that is whole is only written anew with --replace.",
     cli_queries},
    {"evaluate", CMD_EVALUATE, "Learning", "--data DIR [--model BUNDLE] [--task NAME]",
     "rank held-out queries and histories; print metrics beside baselines", NULL, cli_evaluate},
    {"prepare", CMD_PREPARE, "Learning", "amazon|esci|nq|msmarco|trec-dl|beir FOLDER --out DIR",
     "make a data folder from a data set's files as they are published",
     "FOLDER holds the files under their published names, plain or gzip:\n"
     "  amazon   reviews_NAME_5.json, meta_NAME.json\n"
     "  esci     *examples*, *products* as .tsv, .csv or .jsonl; or --data DIR: queries for the items of a prepared category\n"
     "  nq       *nq-train*.jsonl, *nq-dev*.jsonl\n"
     "  msmarco  collection.tsv, queries.train.tsv, qrels.train.tsv, queries.dev.small.tsv, qrels.dev.small.tsv\n"
     "  trec-dl  msmarco-test2019-queries.tsv, 2019qrels-pass.txt, and 2020's; --data DIR: what `prepare msmarco` made\n"
     "  beir     corpus.jsonl, queries.jsonl, qrels/train.tsv, qrels/dev.tsv, qrels/test.tsv\n"
     "DIR appears when it is whole. A stopped run goes on behind its finished phases (DIR.work) when started again.",
     cli_prepare},
    {"recipes", CMD_RECIPES, "Learning", "[NAME]", "list the recipes, settings of whole experiments; or print one", NULL, cli_recipes},
    {"sample", CMD_SAMPLE, "Learning", "--out DIR", "write the demo's product catalogue with queries and histories", NULL, cli_sample},
    {"verify", CMD_VERIFY, "Store", "--catalog FILE [--model BUNDLE]", "check a catalogue, and that it belongs to the bundle", NULL,
     cli_verify},
    {"backup", CMD_BACKUP, "Store", "--catalog FILE --out FILE", "copy a catalogue while it is in use", NULL, cli_backup},
    {"restore", CMD_RESTORE, "Store", "BACKUP --catalog FILE", "put a backup in place as a catalogue", NULL, cli_restore},
    {"doctor", CMD_DOCTOR, "Help", "[--model BUNDLE] [--catalog FILE]", "check this machine, the libraries and the files", NULL,
     cli_doctor},
    {"config", CMD_CONFIG, "Help", "show|check|example|run [COMMAND] [--config FILE]", "say which options are in force, and why",
     "show [serve|learn-ids|train TASK|evaluate] [--recipe NAME]: as that command would read them; run --model BUNDLE: those a bundle was made with.",
     cli_config},
    {"version", CMD_VERSION, "Help", "", "print the version", NULL, cli_version},
    {"help", CMD_HELP, "Help", "[COMMAND]", "print this list, or the options of a command", NULL, help_run},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static const struct {
    enum err_code code;
    int status;
} exits[] = {
    {ERR_NONE, EX_OK},
    {ERR_USAGE, EX_USAGE},
    {ERR_DATA, EX_DATAERR},
    {ERR_NO_INPUT, EX_NOINPUT},
    {ERR_UNAVAILABLE, EX_UNAVAILABLE},
    {ERR_INTERNAL, EX_SOFTWARE},
    {ERR_OS, EX_OSERR},
    {ERR_CANT_CREATE, EX_CANTCREAT},
    {ERR_IO, EX_IOERR},
    {ERR_NO_PERM, EX_NOPERM},
    {ERR_CONFIG, EX_CONFIG},
    {ERR_NO_SPACE, EX_IOERR},
    {ERR_INVALID, EX_DATAERR},
    {ERR_NOT_FOUND, EX_NOINPUT},
    {ERR_CONFLICT, EX_DATAERR},
    {ERR_TOO_LARGE, EX_DATAERR},
    {ERR_DEADLINE, EX_TEMPFAIL},
    {ERR_INTERRUPTED, EX_TEMPFAIL},
};

static int exit_status(enum err_code code)
{
    for (size_t i = 0; i < sizeof exits / sizeof *exits; i++)
        if (exits[i].code == code)
            return exits[i].status;
    return EX_SOFTWARE;
}

static const struct command *command_find(const char *name)
{
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static void print_overview(FILE *to)
{
    const char *group = "";
    fputs("semindex: learn semantic IDs for documents, and retrieve by generating them.\n\nUsage: semindex COMMAND [OPTIONS]\n", to);
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(group, commands[i].group)) {
            group = commands[i].group;
            fprintf(to, "\n%s:\n", group);
        }
        fprintf(to, "  %-10s  %s\n", commands[i].name, commands[i].summary);
    }
    fputs("\n`semindex COMMAND --help` lists the options of a command. An option may also be set as SEMINDEX_NAME in the environment.\n",
          to);
}

static void print_command(const struct command *c)
{
    struct str out = {0};
    str_printf(&out, "semindex %s: %s.\n\nUsage: semindex %s%s%s [OPTIONS]\n", c->name, c->summary, c->name, *c->arguments ? " " : "",
               c->arguments);
    if (c->more)
        str_printf(&out, "\n%s\n", c->more);
    options_help(&out, c->bit);
    fwrite(out.data, 1, out.size, stdout);
    str_free(&out);
}

static int refuse_command(const char *name, struct err *e)
{
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++)
        names[i] = commands[i].name;
    const char *near = nearest_name(name, names, COMMANDS);
    return err_set(e, ERR_USAGE, "'%s' is no command%s%s%s; `semindex help` lists them", name, near ? "; did you mean '" : "",
                   near ? near : "", near ? "'?" : "");
}

static int help_run(const struct options *o, struct err *e)
{
    if (o->argument_count == 0) {
        print_overview(stdout);
        return 0;
    }
    const struct command *c = command_find(o->arguments[0]);
    if (!c)
        return refuse_command(o->arguments[0], e);
    print_command(c);
    return 0;
}

static int run_command(const struct command *c, int count, char **argv)
{
    struct options o;
    struct err e = {0};
    int rc = options_read(&o, c->bit, count, argv, &e);
    if (rc == 0 && o.help)
        print_command(c);
    else if (rc == 0)
        rc = c->run(&o, &e);
    options_free(&o);
    if (rc == 0 && fflush(stdout) == 0)
        return EX_OK;
    if (rc == 0) {
        fprintf(stderr, "semindex %s: the result cannot be written to standard output\n", c->name);
        return EX_IOERR;
    }
    fprintf(stderr, "semindex %s: %s\n", c->name, e.message);
    return exit_status(e.code);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    setlocale(LC_CTYPE, "C.UTF-8");
    if (argc < 2) {
        print_overview(stderr);
        return EX_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    if (!strcmp(name, "--version"))
        name = "version";
    const struct command *c = command_find(name);
    if (c)
        return run_command(c, argc - 2, argv + 2);
    refuse_command(name, &e);
    fprintf(stderr, "semindex: %s\n", e.message);
    return exit_status(e.code);
}
