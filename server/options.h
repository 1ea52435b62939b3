/* options.h: ONE table of options; the command line, the environment, the config file, every --help and the limits in /info derive from
 * it.
 *
 * An option is known by its enum, has one name (--max-limit), one environment variable (SEMINDEX_MAX_LIMIT), a type, bounds and the
 * commands that read it. Precedence: flag > environment > recipe (recipes.h) > config file > default; `origin` says who won. Of options that
 * exclude each other (--steps, --epochs, --minutes; --lr, --search-lr) the one of the strongest origin stands, the others are unset. Values
 * stay valid until options_free. */
#ifndef SEMINDEX_OPTIONS_H
#define SEMINDEX_OPTIONS_H

#include "../core/base/err.h"
#include "../core/base/mem.h"
#include <stdbool.h>
#include <stdint.h>

enum command_bit {
    CMD_SERVE = 1 << 0,
    CMD_IMPORT = 1 << 1,
    CMD_TOKENIZER = 1 << 2,
    CMD_LEARN = 1 << 3,
    CMD_TRAIN = 1 << 4,
    CMD_EVALUATE = 1 << 5,
    CMD_INDEX = 1 << 6,
    CMD_SEARCH = 1 << 7,
    CMD_RECOMMEND = 1 << 8,
    CMD_SAMPLE = 1 << 9,
    CMD_VERIFY = 1 << 10,
    CMD_BACKUP = 1 << 11,
    CMD_RESTORE = 1 << 12,
    CMD_DOCTOR = 1 << 13,
    CMD_CONFIG = 1 << 14,
    CMD_VERSION = 1 << 15,
    CMD_HELP = 1 << 16,
    CMD_PREPARE = 1 << 17,
    CMD_RECIPES = 1 << 18,
    CMD_QUERIES = 1 << 19,
    CMD_PRETRAIN = 1 << 20
};

enum option_id {
    /* files */
    OPT_MODEL,
    OPT_CATALOG,
    OPT_DATA,
    OPT_OUT,
    OPT_BASE,
    OPT_TOKENIZER,
    OPT_EMBEDDINGS,
    OPT_EMBEDDING_IDS,
    OPT_CODES,
    OPT_IDS,
    OPT_REPLACE,
    OPT_CONFIG,
    OPT_RECIPE,
    /* the daemon */
    OPT_LISTEN,
    OPT_INSECURE,
    OPT_HTTP_THREADS,
    OPT_MAX_CONNECTIONS,
    OPT_RECEIVE_TIMEOUT_MS,
    OPT_SEND_TIMEOUT_MS,
    OPT_IDLE_TIMEOUT_MS,
    OPT_DRAIN_TIMEOUT_MS,
    OPT_QUEUE,
    OPT_INGEST_THREADS,
    OPT_INGEST_QUEUE,
    OPT_MAX_BODY_BYTES,
    OPT_MAX_JSON_VALUES,
    OPT_MAX_DOCUMENTS,
    OPT_MAX_QUERIES,
    OPT_MAX_QUERY_BYTES,
    OPT_MAX_LIMIT,
    OPT_MAX_OFFSET,
    OPT_REQUEST_TIMEOUT_MS,
    OPT_MAX_TIMEOUT_MS,
    OPT_INDEX_TIMEOUT_MS,
    /* serving limits of the engine */
    OPT_MAX_BEAM,
    OPT_MAX_QUERY_TOKENS,
    OPT_MAX_DOCUMENT_TOKENS,
    OPT_MAX_HISTORY,
    OPT_BATCH_TOKENS,
    OPT_BATCH_ROWS,
    OPT_RECORDINGS_MIB,
    OPT_RENORMALISE,
    /* queries on the command line */
    OPT_MODE,
    OPT_LIMIT,
    OPT_OFFSET,
    OPT_BEAM,
    OPT_EXCLUDE,
    OPT_KEEP_HISTORY,
    OPT_EXPLAIN,
    /* shape of a model */
    OPT_VOCAB,
    OPT_D_MODEL,
    OPT_D_FF,
    OPT_D_KV,
    OPT_HEADS,
    OPT_ENCODER_LAYERS,
    OPT_DECODER_LAYERS,
    OPT_GATED,
    OPT_INDEXER,
    OPT_POSITIONS,
    OPT_K,
    OPT_LEAF,
    /* learning and training */
    OPT_MAX_TOKENS,
    OPT_BATCH,
    OPT_MICRO_BATCH,
    OPT_LR,
    OPT_SEARCH_LR,
    OPT_SEARCH_STEPS,
    OPT_LR_WARMUP,
    OPT_ADAM_BETA1,
    OPT_ADAM_BETA2,
    OPT_ADAM_EPS,
    OPT_WEIGHT_DECAY,
    OPT_CLIP,
    OPT_DROPOUT,
    OPT_EPOCHS,
    OPT_STEPS,
    OPT_MINUTES,
    OPT_WARMUP_EPOCHS,
    OPT_CONTINUOUS_EPOCHS,
    OPT_JOINT_EPOCHS,
    OPT_HINTS,
    OPT_TEMPERATURE,
    OPT_WEIGHT_RECON,
    OPT_WEIGHT_CONTRASTIVE,
    OPT_WEIGHT_COMMITMENT,
    OPT_TARGET_SHARE,
    OPT_NOISE_DENSITY,
    OPT_MEAN_SPAN,
    OPT_NEGATIVES,
    OPT_KMEANS_RESTARTS,
    OPT_KMEANS_ITERATIONS,
    OPT_TEXT_HISTORY,
    OPT_START,
    OPT_LABEL_SMOOTHING,
    OPT_VALIDATION_SHARE,
    OPT_VALIDATIONS,
    OPT_PATIENCE,
    OPT_CUT_QUERIES,
    OPT_PSEUDO,
    OPT_WRITTEN_SHARE,
    OPT_PER_DOCUMENT,
    OPT_TOP_K,
    OPT_INPUT_TOKENS,
    OPT_FIRST,
    OPT_HOLD_OUT,
    OPT_HOLD_OUT_SEED,
    OPT_CHECKPOINT_S,
    /* evaluation */
    OPT_TASK,
    OPT_QUERIES,
    OPT_WITH_HISTORY,
    OPT_INTERVALS,
    OPT_COMPARE,
    OPT_RUN,
    OPT_RUN_OUT,
    OPT_UNCONSTRAINED,
    OPT_COLD_START,
    /* data sets */
    OPT_CATEGORY,
    OPT_DOCUMENTS,
    OPT_HISTORIES,
    OPT_MAX_TEXT,
    OPT_BAD_LINES,
    OPT_CHECK,
    /* everywhere */
    OPT_SEED,
    OPT_THREADS,
    OPT_DEVICE,
    OPT_LOG_LEVEL,
    OPT_LOG_FORMAT,
    OPT_JSON,
    OPT_QUIET,
    OPT_COUNT
};

enum option_type { OPTION_FLAG, OPTION_INT, OPTION_REAL, OPTION_TEXT, OPTION_CHOICE };
enum option_origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_RECIPE, ORIGIN_ENVIRONMENT, ORIGIN_FLAG };

struct option_def {
    const char *name; /* "max-limit" */
    enum option_type type;
    const char *standard; /* default as text; "" = unset (the run's own default, see help) */
    double min, max;      /* bounds of numbers */
    const char *hint;     /* placeholder in --help; for OPTION_CHOICE the values, "a|b|c" */
    const char *help;
    unsigned commands; /* CMD_* that read it */
    const char *group;
};
extern const struct option_def option_table[OPT_COUNT];

struct option_value {
    char *text; /* NULL = unset */
    double number;
    int64_t integer;
    enum option_origin origin;
};
struct options {
    struct option_value values[OPT_COUNT];
    char **arguments; /* what is no option, in order */
    int argument_count;
    bool help; /* --help was among the flags */
};

/* Reads argv[0..count) for `command`, the environment and the config file. -1 with ERR_USAGE (flag) or ERR_CONFIG (environment, file). */
int options_read(struct options *o, unsigned command, int count, char **argv, struct err *e);
/* Reads one config file into what is not set by a stronger origin yet; ERR_CONFIG names file, line and the nearest known name. */
int options_read_file(struct options *o, const char *path, struct err *e);
void options_free(struct options *o);
/* Sets one value unless a stronger origin has; `what` is how the person wrote the option. -1 with ERR_USAGE naming what, value and bounds. */
int option_put(struct options *o, enum option_id id, const char *text, enum option_origin origin, const char *what, struct err *e);
/* The option of that name, or -1; the nearest name among those of `command` (a mask of CMD_*), or NULL. */
int option_find(const char *name, size_t size);
const char *option_nearest(const char *given, unsigned command);

bool option_set(const struct options *o, enum option_id id);         /* given, or has a default */
bool option_given(const struct options *o, enum option_id id);       /* by a person, not the default */
const char *option_text(const struct options *o, enum option_id id); /* NULL = unset */
int64_t option_int(const struct options *o, enum option_id id);      /* 0 = unset */
double option_real(const struct options *o, enum option_id id);
bool option_flag(const struct options *o, enum option_id id);
/* The text, or NULL with ERR_USAGE "--model BUNDLE is needed". */
const char *option_need(const struct options *o, enum option_id id, struct err *e);

void option_environment_name(enum option_id id, char name[64]); /* "SEMINDEX_MAX_LIMIT" */
const char *option_origin_name(enum option_origin origin);
char *option_trim(char *s); /* in place: without white space at both ends, as lines of config files and recipes are read */
/* The name in names[0..count) nearest to `given` by edit distance, or NULL when none is near. */
const char *nearest_name(const char *given, const char *const *names, int count);
void options_help(struct str *out, unsigned command);    /* the groups of one command, aligned */
void options_example(struct str *out, unsigned command); /* a config file with every option of the command, commented */

#endif
