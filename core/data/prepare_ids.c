/* prepare_ids.c: ids to numbers in order of appearance, and back. Ids live in one arena; beside it the map keeps its own copy: about 130
 * bytes an id in all, which is what a preparation holds of its users, items and judged documents. */
#include "prepare_internal.h"

#include <stdlib.h>
#include <string.h>

void prepare_ids_init(struct prepare_ids *ids)
{
    *ids = (struct prepare_ids){.map = string_map_init(1024)};
    arena_init(&ids->strings, 0);
}

void prepare_ids_free(struct prepare_ids *ids)
{
    string_map_free(ids->map);
    arena_free(&ids->strings);
    free(ids->id);
    *ids = (struct prepare_ids){0};
}

int32_t prepare_ids_add(struct prepare_ids *ids, const char *id)
{
    size_t size = strlen(id);
    int32_t at = string_map_get(ids->map, id, size);
    if (at >= 0)
        return at;
    if (ids->count == ids->room) {
        ids->room = ids->room ? ids->room * 2 : 1024;
        ids->id = xrealloc(ids->id, (size_t)ids->room, sizeof *ids->id);
    }
    ids->id[ids->count] = arena_strndup(&ids->strings, id, size);
    string_map_put(ids->map, id, size, ids->count);
    return ids->count++;
}

int32_t prepare_ids_find(const struct prepare_ids *ids, const char *id)
{
    return string_map_get(ids->map, id, strlen(id));
}

int prepare_ids_save(struct prepare *p, const struct prepare_ids *ids, const char *name, struct err *e)
{
    struct file_out f;
    if (prepare_create_work(p, &f, name, e) < 0)
        return -1;
    for (int32_t i = 0; i < ids->count; i++)
        fprintf(f.stream, "%s\n", ids->id[i]);
    return file_out_commit(&f, e);
}

int prepare_ids_load(struct prepare *p, struct prepare_ids *ids, const char *name, struct err *e)
{
    char *path = path_join(p->work, name), *line;
    size_t size;
    int rc = -1;
    prepare_ids_init(ids);
    struct lines *l = lines_open(path, e);
    while (l && (rc = lines_next(l, &line, &size, e)) == 1)
        prepare_ids_add(ids, line);
    lines_close(l);
    free(path);
    return rc;
}
