/* prepare_amazon.c: Amazon 2014 5-core reviews and metadata into items.jsonl, sequences.txt and the list of training histories.
 *
 * Phases: "reviews" turns each line into 16 bytes (user, item, time) in the work folder; "sequences" sorts them for as many users at a time
 * as have EVENTS_MOST reviews together, reading the 16-byte file once for each such group; "metadata" turns the Python literals of wanted
 * items into JSON lines in the order they are met; "items" writes those in the order of the items. Users stand in the order of their first
 * review in the file, items in the order of sequences.txt; a user's items by time, those of one time by ASIN. An item counts once for a
 * user, the first time. Memory: ids, 16 bytes a review of one group and an item. */
#include "../../kernels/backend.h"
#include "../text/document.h"
#include "prepare_internal.h"
#include "python_literal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS_MOST = 1 << 20, ITEMS_LEAST = 3, HISTORIES = 5 };

struct event {
    int64_t time;
    int32_t user, item;
};
struct shop {
    struct prepare *p;
    struct prepare_ids users, items;
    struct file_out events, sequences, histories;
    /* sequences */
    int32_t *rank;      /* of each item by ASIN */
    int32_t *last_user; /* of each item: user + 1 in whose history it is */
    int32_t *reviews;   /* of each user */
    int32_t users_written;
    struct prepare_ids order; /* the items as first met */
};

/* ---- reviews ---- */

static bool id_fits(const char *id)
{
    return id && document_check_id(id, strlen(id), NULL) == 0 && !strpbrk(id, " \t");
}

static int add_review(struct shop *s, struct prepare_input *in, const cJSON *o, struct err *e)
{
    const char *user = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "reviewerID"));
    const char *item = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "asin"));
    const cJSON *time = cJSON_GetObjectItemCaseSensitive(o, "unixReviewTime");
    if (!id_fits(user))
        return prepare_bad(in, e, "\"reviewerID\" is missing or no id");
    if (!id_fits(item))
        return prepare_bad(in, e, "\"asin\" is missing or no id");
    if (!cJSON_IsNumber(time) || fabs(time->valuedouble) > 1e15)
        return prepare_bad(in, e, "\"unixReviewTime\" is missing or no time");
    struct event v = {(int64_t)time->valuedouble, prepare_ids_add(&s->users, user), prepare_ids_add(&s->items, item)};
    fwrite(&v, sizeof v, 1, s->events.stream);
    return 0;
}

static int read_reviews(struct shop *s, struct err *e)
{
    struct prepare_input in;
    cJSON *object;
    int status = 0;
    if (prepare_create_work(s->p, &s->events, "events.bin", e) < 0)
        return -1;
    if (prepare_open(&in, s->p, s->p->files[0].path[0], e) < 0)
        return -1;
    while (status >= 0 && (object = prepare_next_object(&in, &status, e))) {
        if (add_review(s, &in, object, e) < 0)
            status = -1;
        cJSON_Delete(object);
    }
    prepare_close(&in);
    if (status == 0 && s->users.count == 0)
        status = err_set(e, ERR_DATA, "%s: no reviews", s->p->files[0].path[0]);
    if (status < 0 || file_out_commit(&s->events, e) < 0)
        return -1;
    if (prepare_ids_save(s->p, &s->users, "users.txt", e) < 0)
        return -1;
    return prepare_ids_save(s->p, &s->items, "asins.txt", e);
}

static int phase_reviews(struct shop *s, struct err *e)
{
    int done = prepare_phase(s->p, "reviews", e);
    if (done < 0)
        return -1;
    if (done == 1) {
        prepare_ids_free(&s->users);
        prepare_ids_free(&s->items);
        if (prepare_ids_load(s->p, &s->users, "users.txt", e) < 0)
            return -1;
        return prepare_ids_load(s->p, &s->items, "asins.txt", e);
    }
    return read_reviews(s, e) < 0 ? -1 : prepare_phase_end(s->p, e);
}

/* ---- sequences ---- */

static int compare_ids(const void *a, const void *b, void *ids)
{
    char *const *id = ids;
    return strcmp(id[*(const int32_t *)a], id[*(const int32_t *)b]);
}

static void rank_items(struct shop *s)
{
    int32_t n = s->items.count, *sorted = xcalloc((size_t)n, sizeof *sorted);
    s->rank = xcalloc((size_t)n, sizeof *s->rank);
    for (int32_t i = 0; i < n; i++)
        sorted[i] = i;
    qsort_r(sorted, (size_t)n, sizeof *sorted, compare_ids, s->items.id);
    for (int32_t i = 0; i < n; i++)
        s->rank[sorted[i]] = i;
    free(sorted);
}

static int compare_events(const void *a, const void *b, void *rank)
{
    const struct event *x = a, *y = b;
    const int32_t *r = rank;
    if (x->user != y->user)
        return x->user < y->user ? -1 : 1;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return (r[x->item] > r[y->item]) - (r[x->item] < r[y->item]);
}

/* Calls take for every event of users [from, to). */
static int each_event(struct shop *s, int32_t from, int32_t to, void (*take)(void *, const struct event *), void *state, struct err *e)
{
    enum { PIECE = 4096 };
    struct event piece[PIECE];
    char *path = path_join(s->p->work, "events.bin");
    FILE *f = fopen(path, "rb");
    size_t n = 0;
    int rc = f ? 0 : err_set(e, err_from_errno(errno), "%s: cannot be opened: %s", path, strerror(errno));
    while (rc == 0 && (n = fread(piece, sizeof *piece, PIECE, f)) > 0) {
        for (size_t i = 0; i < n && rc == 0; i++) {
            if ((uint32_t)piece[i].user >= (uint32_t)s->users.count || (uint32_t)piece[i].item >= (uint32_t)s->items.count)
                rc = err_set(e, ERR_DATA, "%s: damaged; remove the folder to begin again", path);
            else if (piece[i].user >= from && piece[i].user < to)
                take(state, &piece[i]);
        }
        if (rc == 0 && run_stopping(s->p->run))
            rc = err_set(e, ERR_INTERRUPTED, "stopped in phase \"sequences\"");
    }
    if (rc == 0 && ferror(f))
        rc = err_set(e, ERR_IO, "%s: cannot be read", path);
    if (f)
        fclose(f);
    free(path);
    return rc;
}

static void count_event(void *state, const struct event *v)
{
    ((int32_t *)state)[v->user]++;
}

struct group {
    struct event *event;
    size_t count;
};
static void gather_event(void *state, const struct event *v)
{
    struct group *g = state;
    g->event[g->count++] = *v;
}

/* The first `length` items are the history, the next one is what follows. Of m training items, lengths 1 .. m - 1 have one. */
static void write_histories(struct shop *s, const char *user, int32_t items)
{
    struct prepare *p = s->p;
    int32_t prefixes = items - ITEMS_LEAST;
    int32_t n = prefixes <= 0 ? 0 : p->o->all_histories ? prefixes : HISTORIES;
    for (int32_t i = 0; i < n; i++) {
        uint64_t draw = mix64(p->o->seed, (uint64_t)s->users_written * HISTORIES + (uint64_t)i);
        int32_t length = p->o->all_histories ? i + 1 : (int32_t)(draw % (uint64_t)prefixes) + 1;
        fprintf(s->histories.stream, "%s\t%d\n", user, length);
    }
    p->count[COUNT_HISTORIES] += n;
    p->count[COUNT_HISTORIES + 1]++;
    p->count[COUNT_HISTORIES + 2]++;
}

/* v[0..n): one user's events, sorted. Repeats go first, so that what is short is known before anything is written. */
static void write_user(struct shop *s, struct event *v, size_t n)
{
    size_t kept = 0;
    const char *user = s->users.id[v->user];
    for (size_t i = 0; i < n; i++) {
        int32_t *last = &s->last_user[v[i].item];
        if (*last != v[i].user + 1)
            v[kept++] = v[i];
        *last = v[i].user + 1;
    }
    s->p->count[COUNT_REPEATED_REVIEWS] += (int64_t)(n - kept);
    if (kept < ITEMS_LEAST) {
        s->p->count[COUNT_SHORT_USERS]++;
        return;
    }
    fputs(user, s->sequences.stream);
    for (size_t i = 0; i < kept; i++) {
        const char *item = s->items.id[v[i].item];
        fprintf(s->sequences.stream, " %s", item);
        prepare_ids_add(&s->order, item);
    }
    fputc('\n', s->sequences.stream);
    write_histories(s, user, (int32_t)kept);
    s->users_written++;
}

static int write_group(struct shop *s, int32_t from, int32_t to, int64_t events, struct err *e)
{
    struct group g = {.event = xrealloc(NULL, (size_t)events, sizeof *g.event)};
    int rc = each_event(s, from, to, gather_event, &g, e);
    if (rc == 0)
        qsort_r(g.event, g.count, sizeof *g.event, compare_events, s->rank);
    for (size_t i = 0, n; rc == 0 && i < g.count; i += n) {
        for (n = 1; i + n < g.count && g.event[i + n].user == g.event[i].user; n++)
            ;
        write_user(s, g.event + i, n);
    }
    run_report(s->p->run, "sequences", to, s->users.count, "users", NAN);
    free(g.event);
    return rc;
}

static int write_sequences(struct shop *s, struct err *e)
{
    s->reviews = xcalloc((size_t)s->users.count, sizeof *s->reviews);
    s->last_user = xcalloc((size_t)s->items.count, sizeof *s->last_user);
    rank_items(s);
    if (prepare_create(s->p, &s->sequences, "sequences.txt", e) < 0 || prepare_create(s->p, &s->histories, "histories-train.tsv", e) < 0)
        return -1;
    int rc = each_event(s, 0, s->users.count, count_event, s->reviews, e);
    for (int32_t from = 0, to; rc == 0 && from < s->users.count; from = to) {
        int64_t events = s->reviews[from];
        for (to = from + 1; to < s->users.count && events + s->reviews[to] <= EVENTS_MOST; to++)
            events += s->reviews[to];
        rc = write_group(s, from, to, events, e);
    }
    if (rc < 0 || file_out_commit(&s->sequences, e) < 0 || file_out_commit(&s->histories, e) < 0)
        return -1;
    s->p->count[COUNT_USERS] = s->users_written;
    s->p->count[COUNT_DOCUMENTS] = s->order.count;
    return prepare_ids_save(s->p, &s->order, "order.txt", e);
}

static int phase_sequences(struct shop *s, struct err *e)
{
    int done = prepare_phase(s->p, "sequences", e);
    if (done < 0)
        return -1;
    if (done == 1) {
        prepare_ids_free(&s->order);
        return prepare_ids_load(s->p, &s->order, "order.txt", e);
    }
    if (write_sequences(s, e) < 0)
        return -1;
    if (s->users_written == 0)
        return err_set(e, ERR_DATA, "%s: no user has %d items", s->p->files[0].path[0], ITEMS_LEAST);
    return prepare_phase_end(s->p, e);
}

/* ---- metadata ---- */

struct place { /* of an item's line in metadata.jsonl; size 0 = it has none */
    int64_t offset, size;
};

static const char *text_of(const cJSON *o, const char *name)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
    return s ? s : "";
}

static void add_clean(cJSON *to, const char *name, const char *text, size_t most)
{
    struct str s = {0};
    prepare_clean(&s, text, true, most);
    if (s.size || strcmp(name, "title") == 0)
        cJSON_AddStringToObject(to, name, s.data);
    str_free(&s);
}

static void add_categories(cJSON *to, const cJSON *paths)
{
    cJSON *all = cJSON_CreateArray();
    const cJSON *path, *name;
    cJSON_ArrayForEach(path, paths)
    {
        cJSON *one = cJSON_CreateArray();
        cJSON_ArrayForEach(name, path)
        {
            struct str s = {0};
            if (cJSON_IsString(name))
                prepare_clean(&s, name->valuestring, true, 0);
            if (s.size)
                cJSON_AddItemToArray(one, cJSON_CreateString(s.data));
            str_free(&s);
        }
        cJSON_AddItemToArray(all, one);
    }
    if (all->child)
        cJSON_AddItemToObject(to, "categories", all);
    else
        cJSON_Delete(all);
}

/* The item as a line of items.jsonl; the caller frees by cJSON_free. */
static char *item_line(const struct prepare *p, const char *asin, const cJSON *o)
{
    cJSON *item = cJSON_CreateObject();
    const cJSON *price = cJSON_GetObjectItemCaseSensitive(o, "price");
    cJSON_AddStringToObject(item, "id", asin);
    add_clean(item, "title", text_of(o, "title"), 0);
    add_clean(item, "brand", text_of(o, "brand"), 0);
    add_categories(item, cJSON_GetObjectItemCaseSensitive(o, "categories"));
    add_clean(item, "description", text_of(o, "description"), (size_t)p->o->max_text);
    if (cJSON_IsNumber(price))
        cJSON_AddNumberToObject(item, "price", price->valuedouble);
    char *line = cJSON_PrintUnformatted(item);
    cJSON_Delete(item);
    return line;
}

struct metadata {
    struct shop *s;
    struct prepare_input in;
    struct file_out f;
    struct place *place;
    int64_t size;
};

static int add_metadata(struct metadata *m, const cJSON *o, struct err *e)
{
    struct prepare *p = m->s->p;
    const char *asin = text_of(o, "asin");
    if (!*asin)
        return prepare_bad(&m->in, e, "\"asin\" is missing");
    int32_t at = prepare_ids_find(&m->s->order, asin);
    if (at < 0)
        return 0;
    if (m->place[at].size) {
        p->count[COUNT_REPEATED_METADATA]++;
        return 0;
    }
    char *line = item_line(p, asin, o);
    size_t n = strlen(line);
    m->place[at] = (struct place){m->size, (int64_t)n};
    m->size += (int64_t)n;
    fwrite(line, 1, n, m->f.stream);
    cJSON_free(line);
    if (text_of(o, "title")[strspn(text_of(o, "title"), " \t\r\n")] == 0)
        p->count[COUNT_EMPTY_TITLES]++;
    return 0;
}

/* A line is a Python literal; strict JSON is read as what it is. */
static int read_metadata_line(struct metadata *m, struct err *e)
{
    struct err why = {0};
    bool json = strncmp(m->in.line, "{\"", 2) == 0;
    cJSON *o = json ? cJSON_ParseWithLength(m->in.line, m->in.size) : NULL;
    if (!o)
        o = python_literal_parse(m->in.line, m->in.size, &why);
    int rc = !o                   ? prepare_bad(&m->in, e, "is no Python literal: %s", why.message)
             : !cJSON_IsObject(o) ? prepare_bad(&m->in, e, "is no Python dict")
                                  : add_metadata(m, o, e);
    cJSON_Delete(o);
    return rc;
}

static int read_metadata(struct metadata *m, struct err *e)
{
    struct prepare *p = m->s->p;
    int status;
    if (prepare_create_work(p, &m->f, "metadata.jsonl", e) < 0)
        return -1;
    if (prepare_open(&m->in, p, p->files[1].path[0], e) < 0)
        return -1;
    while ((status = prepare_next(&m->in, e)) == 1)
        if ((status = read_metadata_line(m, e)) < 0)
            break;
    prepare_close(&m->in);
    if (status < 0 || file_out_commit(&m->f, e) < 0)
        return -1;
    for (int32_t i = 0; i < m->s->order.count; i++)
        p->count[COUNT_WITHOUT_METADATA] += m->place[i].size == 0;
    return prepare_save(p, "places.bin", m->place, (size_t)m->s->order.count * sizeof *m->place, e);
}

static int phase_metadata(struct shop *s, struct err *e)
{
    int done = prepare_phase(s->p, "metadata", e);
    if (done != 0)
        return done < 0 ? -1 : 0;
    struct metadata m = {.s = s, .place = xcalloc((size_t)s->order.count, sizeof *m.place)};
    int rc = read_metadata(&m, e);
    file_out_cancel(&m.f);
    free(m.place);
    return rc < 0 ? -1 : prepare_phase_end(s->p, e);
}

/* ---- items ---- */

static int copy_line(FILE *from, const struct place *at, FILE *to, struct str *room)
{
    str_clear(room);
    while (room->size < (size_t)at->size)
        str_append(room, "                ", 16);
    if (fseeko(from, at->offset, SEEK_SET) < 0 || fread(room->data, 1, (size_t)at->size, from) != (size_t)at->size)
        return -1;
    fwrite(room->data, 1, (size_t)at->size, to);
    fputc('\n', to);
    return 0;
}

static int write_items(struct shop *s, const struct place *place, FILE *from, struct err *e)
{
    struct file_out f;
    struct str room = {0};
    int rc = prepare_create(s->p, &f, "items.jsonl", e);
    if (rc < 0)
        return -1;
    for (int32_t i = 0; i < s->order.count && rc == 0; i++) {
        if (place[i].size) {
            rc = copy_line(from, &place[i], f.stream, &room);
        } else {
            fputs("{\"id\":", f.stream);
            prepare_json_string(f.stream, s->order.id[i]);
            fputs(",\"title\":\"\"}\n", f.stream);
        }
    }
    str_free(&room);
    if (rc == 0)
        return file_out_commit(&f, e);
    file_out_cancel(&f);
    return err_set(e, ERR_IO, "%s/metadata.jsonl: cannot be read; remove the folder to begin again", s->p->work);
}

static int phase_items(struct shop *s, struct err *e)
{
    int done = prepare_phase(s->p, "items", e);
    if (done != 0)
        return done < 0 ? -1 : 0;
    struct place *place = prepare_load(s->p, "places.bin", (size_t)s->order.count * sizeof *place, e);
    char *path = path_join(s->p->work, "metadata.jsonl");
    FILE *from = place ? fopen(path, "rb") : NULL;
    int rc = from ? write_items(s, place, from, e) : -1;
    if (place && !from)
        err_set(e, err_from_errno(errno), "%s: cannot be opened: %s", path, strerror(errno));
    if (from)
        fclose(from);
    free(path);
    free(place);
    return rc < 0 ? -1 : prepare_phase_end(s->p, e);
}

int prepare_amazon(struct prepare *p, struct err *e)
{
    struct shop s = {.p = p};
    prepare_ids_init(&s.users);
    prepare_ids_init(&s.items);
    prepare_ids_init(&s.order);
    int rc = phase_reviews(&s, e);
    if (rc == 0)
        rc = phase_sequences(&s, e);
    if (rc == 0)
        rc = phase_metadata(&s, e);
    if (rc == 0)
        rc = phase_items(&s, e);
    file_out_cancel(&s.events);
    file_out_cancel(&s.sequences);
    file_out_cancel(&s.histories);
    prepare_ids_free(&s.users);
    prepare_ids_free(&s.items);
    prepare_ids_free(&s.order);
    free(s.rank);
    free(s.last_user);
    free(s.reviews);
    return rc;
}
