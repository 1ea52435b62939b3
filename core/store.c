/* store.c: the store's upkeep as the command line starts it: the catalogue's own functions, with the model's digest where a bundle is given. */
#include "catalog/catalog.h"
#include "model/bundle.h"
#include "runs.h"

int store_verify(const char *catalog, const char *model_or_null, const struct run *run, struct err *e)
{
    char digest[65];
    if (!model_or_null)
        return catalog_verify(catalog, NULL, run, e);
    struct bundle *b = bundle_open(model_or_null, e);
    if (!b)
        return -1;
    bundle_id_digest(b, digest);
    bundle_close(b);
    return catalog_verify(catalog, digest, run, e);
}

int store_backup(const char *catalog, const char *out, const struct run *run, struct err *e)
{
    return catalog_backup(catalog, out, run, e);
}

int store_restore(const char *backup, const char *catalog, const struct run *run, struct err *e)
{
    return catalog_restore(backup, catalog, run, e);
}
