/* cli_store.c: verify, backup and restore of a catalogue: the upkeep that a person or a timer starts. */
#include "../core/runs.h"
#include "cli.h"
#include <stdio.h>

int cli_verify(const struct options *o, struct err *e)
{
    const char *catalog = option_need(o, OPT_CATALOG, e);
    if (!catalog || cli_no_arguments(o, e))
        return -1;
    int rc = store_verify(catalog, option_text(o, OPT_MODEL), cli_progress_begin(o), e);
    cli_progress_end();
    if (rc == 0)
        printf("%s: whole\n", catalog);
    return rc;
}

int cli_backup(const struct options *o, struct err *e)
{
    const char *catalog = option_need(o, OPT_CATALOG, e), *out = option_need(o, OPT_OUT, catalog ? e : NULL);
    if (!catalog || !out || cli_no_arguments(o, e))
        return -1;
    int rc = store_backup(catalog, out, cli_progress_begin(o), e);
    cli_progress_end();
    if (rc == 0)
        printf("wrote %s\n", out);
    return rc;
}

int cli_restore(const struct options *o, struct err *e)
{
    const char *catalog = option_need(o, OPT_CATALOG, e);
    if (!catalog)
        return -1;
    if (o->argument_count != 1)
        return err_set(e, ERR_USAGE, "one argument is needed: the file that backup wrote");
    int rc = store_restore(o->arguments[0], catalog, cli_progress_begin(o), e);
    cli_progress_end();
    if (rc == 0)
        printf("restored %s\n", catalog);
    return rc;
}
