/* cli.h: the commands of the program besides serve, and what they share: progress on standard error and the wish to stop. */
#ifndef SEMINDEX_CLI_H
#define SEMINDEX_CLI_H

#include "../core/base/run.h"
#include "options.h"
#include <stdbool.h>

struct command {
    const char *name;
    unsigned bit;
    const char *group, *arguments, *summary, *more; /* more: further lines of --help, or NULL */
    int (*run)(const struct options *o, struct err *e);
};

/* A run that draws a bar with rate and time left on a terminal, plain lines every few seconds in a log, nothing with --quiet. The first
 * SIGINT or SIGTERM asks the run to stop, the second ends the process. One at a time; cli_progress_end before results are printed. */
const struct run *cli_progress_begin(const struct options *o);
void cli_progress_end(void);

/* cli_runs.c */
int cli_import(const struct options *o, struct err *e);
int cli_tokenizer(const struct options *o, struct err *e);
int cli_pretrain(const struct options *o, struct err *e);
int cli_learn(const struct options *o, struct err *e);
int cli_queries(const struct options *o, struct err *e);
int cli_train(const struct options *o, struct err *e);
int cli_evaluate(const struct options *o, struct err *e);
int cli_sample(const struct options *o, struct err *e);
int cli_prepare(const struct options *o, struct err *e);
/* recipes.c */
int cli_recipes(const struct options *o, struct err *e);
/* cli_query.c */
int cli_index(const struct options *o, struct err *e);
int cli_search(const struct options *o, struct err *e);
int cli_recommend(const struct options *o, struct err *e);
/* cli_store.c */
int cli_verify(const struct options *o, struct err *e);
int cli_backup(const struct options *o, struct err *e);
int cli_restore(const struct options *o, struct err *e);
/* cli_doctor.c */
int cli_doctor(const struct options *o, struct err *e);
int cli_version(const struct options *o, struct err *e);
/* cli_config.c */
int cli_config(const struct options *o, struct err *e);

int cli_no_arguments(const struct options *o, struct err *e); /* -1 when there are any */

#endif
