-- SPDX-License-Identifier: Apache-2.0
-- Written by generate.sh from the installed headers; do not edit.
return [[
uint32_t cadft_version(void);
enum { CADFT_OK = 0, CADFT_E_NULL = -10, CADFT_E_ARG = -11, CADFT_E_SHAPE = -12, CADFT_E_DTYPE =
-13, CADFT_E_ALIGN = -14, CADFT_E_ALIAS = -15, CADFT_E_DEVICE = -16, CADFT_E_TOO_NEW = -17,
CADFT_E_KEY = -18, CADFT_E_SPACE = -19, CADFT_E_PHASE = -30, CADFT_E_BUSY = -31,
CADFT_E_UNSUPPORTED = -32, CADFT_E_LABEL = -50, CADFT_E_SAMPLE = -51, CADFT_E_NONFINITE = -52,
CADFT_E_STATE = -53, CADFT_E_FORMAT = -54, CADFT_E_NOMEM = -70, CADFT_E_THREADS = -71,
CADFT_E_BACKEND = -72, CADFT_E_CALLBACK = -73, CADFT_E_IO = -74 };
const char *cadft_status_string(int32_t status);
typedef struct cadft_error { uint32_t struct_size;
int32_t code;
char message[256];
} cadft_error;
enum { CADFT_DTYPE_I32 = 0x12000, CADFT_DTYPE_I64 = 0x14000, CADFT_DTYPE_F16 = 0x11002,
CADFT_DTYPE_F32 = 0x12002, CADFT_DTYPE_F64 = 0x14002, CADFT_DTYPE_BF16 = 0x11004 };
enum { CADFT_DEVICE_CPU = 1, CADFT_DEVICE_CUDA = 2, CADFT_DEVICE_CUDA_HOST = 3, CADFT_DEVICE_ROCM =
10 };
enum { CADFT_NDIM_MAX = 16 };
typedef struct cadft_tensor { uint32_t struct_size;
int32_t reserved;
uint64_t flags;
void *data;
int32_t device_type;
int32_t device_id;
int32_t ndim;
uint8_t dtype_code;
uint8_t dtype_bits;
uint16_t dtype_lanes;
int64_t *shape;
int64_t *strides;
uint64_t byte_offset;
} cadft_tensor;
int32_t cadft_tensor_init(cadft_tensor *tensor, uint32_t struct_size, void *data, int32_t dtype,
int32_t ndim, int64_t *shape, int64_t *strides, cadft_error *error);
typedef struct cadft_allocator { uint32_t struct_size;
int32_t reserved;
void *user;
void *(*alloc)(void *user, size_t size, size_t align);
void (*free)(void *user, void *memory, size_t size, size_t align);
void (*destroy)(void *user);
} cadft_allocator;
enum { CADFT_LOG_WARNING = 1, CADFT_LOG_INFO = 2 };
typedef struct cadft_log { uint32_t struct_size;
int32_t max_level;
void *user;
void (*write)(void *user, int32_t level, const char *text, size_t length);
void (*destroy)(void *user);
} cadft_log;
typedef void (*cadft_task_fn)(void *task, int64_t index, int32_t worker);
typedef struct cadft_parallel { uint32_t struct_size;
int32_t max_workers;
void *user;
int32_t (*parallel_for)(void *user, int64_t n, cadft_task_fn fn, void *task);
void (*destroy)(void *user);
} cadft_parallel;
typedef struct cadft_context cadft_context;
typedef struct cadft_context_desc { uint32_t struct_size;
int32_t n_threads;
const cadft_allocator *allocator;
const cadft_log *log;
const cadft_parallel *parallel;
const char *backend;
const char *backend_options;
} cadft_context_desc;
int32_t cadft_context_create(const cadft_context_desc *desc, cadft_context **out, cadft_error
*error);
void cadft_context_destroy(cadft_context *context);
enum { CADFT_CONTEXT_WORKERS = 1, CADFT_CONTEXT_BYTES = 2, CADFT_CONTEXT_PEAK_BYTES = 3,
CADFT_CONTEXT_BACKEND = 4, CADFT_CONTEXT_DEVICE = 5, CADFT_CONTEXT_LAST_ERROR = 6 };
int32_t cadft_context_get_i64(cadft_context *context, int32_t key, int64_t *out, cadft_error
*error);
int32_t cadft_context_get_str(cadft_context *context, int32_t key, char *buffer, size_t capacity,
size_t *needed, cadft_error *error);
int32_t cadft_context_read(cadft_context *context, const cadft_tensor *from, void *to, size_t
bytes, cadft_error *error);
int32_t cadft_context_write(cadft_context *context, const cadft_tensor *to, const void *from,
size_t bytes, cadft_error *error);
typedef struct cadft_loss cadft_loss;
int32_t cadft_loss_create(cadft_context *context, cadft_loss **out, cadft_error *error);
void cadft_loss_destroy(cadft_loss *loss);
enum { CADFT_LOSS_OBJECTIVE = 1, CADFT_LOSS_WEIGHTING = 2, CADFT_LOSS_BETA = 3, CADFT_LOSS_EPS = 4,
CADFT_LOSS_DDOF = 5, CADFT_LOSS_SCOPE = 6, CADFT_LOSS_RUNNING_DECAY = 7, CADFT_LOSS_RENORMALISE =
8, CADFT_LOSS_NONFINITE = 9, CADFT_LOSS_REDUCTION = 10, CADFT_LOSS_DENOMINATOR = 11,
CADFT_LOSS_GRAD_SCALE = 12, CADFT_LOSS_IGNORE_INDEX = 13, CADFT_LOSS_LABEL_OFFSET = 14,
CADFT_LOSS_Z_LOSS = 15, CADFT_LOSS_LABEL_SMOOTHING = 16, CADFT_LOSS_SOFTCAP = 17,
CADFT_LOSS_POWER_Q = 18, CADFT_LOSS_FOCAL_GAMMA = 19, CADFT_LOSS_EAFT_ALPHA = 20,
CADFT_LOSS_INFOSFT_TARGET = 21 };
enum { CADFT_OBJECTIVE_SFT = 0, CADFT_OBJECTIVE_DFT = 1, CADFT_OBJECTIVE_DFT_NOSG = 2,
CADFT_OBJECTIVE_POWER = 3, CADFT_OBJECTIVE_FOCAL = 4, CADFT_OBJECTIVE_EAFT = 5,
CADFT_OBJECTIVE_INFOSFT = 6, CADFT_OBJECTIVE_HOST = 7 };
enum { CADFT_SCOPE_EXACT = 0, CADFT_SCOPE_RUNNING = 1, CADFT_SCOPE_LOCAL = 2 };
enum { CADFT_NONFINITE_ERROR = 0, CADFT_NONFINITE_SKIP = 1 };
enum { CADFT_REDUCTION_TOKEN_MEAN = 0, CADFT_REDUCTION_SAMPLE_SUM = 1, CADFT_REDUCTION_SAMPLE_MEAN
= 2, CADFT_REDUCTION_SUM = 3 };
int32_t cadft_loss_set_i64(cadft_loss *loss, int32_t key, int64_t value, cadft_error *error);
int32_t cadft_loss_set_f64(cadft_loss *loss, int32_t key, double value, cadft_error *error);
int32_t cadft_loss_set_str(cadft_loss *loss, int32_t key, const char *value, cadft_error *error);
int32_t cadft_loss_get_i64(cadft_loss *loss, int32_t key, int64_t *out, cadft_error *error);
int32_t cadft_loss_get_f64(cadft_loss *loss, int32_t key, double *out, cadft_error *error);
int32_t cadft_loss_get_str(cadft_loss *loss, int32_t key, char *buffer, size_t capacity, size_t
*needed, cadft_error *error);
int32_t cadft_loss_bounds(int32_t key, int32_t *type, double *smallest, double *largest, double
*standard, cadft_error *error);
int32_t cadft_loss_key(const char *name, int32_t *key, cadft_error *error);
int32_t cadft_loss_key_at(int32_t index, const char **name, int32_t *key, cadft_error *error);
typedef int32_t (*cadft_coefficient_fn)(void *user, int64_t rows, const double *l, const double *p,
const double *entropy, double *k);
typedef struct cadft_coefficient { uint32_t struct_size;
int32_t reserved;
void *user;
cadft_coefficient_fn fn;
void (*destroy)(void *user);
} cadft_coefficient;
int32_t cadft_loss_set_coefficient(cadft_loss *loss, const cadft_coefficient *coefficient,
cadft_error *error);
typedef struct cadft_loss_batch { uint32_t struct_size;
int32_t reserved;
const cadft_tensor *logits;
const cadft_tensor *labels;
const cadft_tensor *sample_ids;
const cadft_tensor *k;
int64_t vocab_valid;
int64_t vocab_start;
int64_t vocab_total;
void *stream;
} cadft_loss_batch;
int32_t cadft_sample_ids_padded(int64_t n_sequences, int64_t length, const cadft_tensor *lengths,
int32_t first_id, int32_t *ids, cadft_error *error);
int32_t cadft_sample_ids_cu_seqlens(const cadft_tensor *cu_seqlens, int64_t rows, int32_t first_id,
int32_t *ids, cadft_error *error);
int32_t cadft_sample_ids_position_ids(const cadft_tensor *position_ids, int32_t first_id, int32_t
*ids, int64_t *n_samples, cadft_error *error);
typedef struct cadft_loss_report { uint32_t struct_size;
int32_t reserved;
double loss;
double nll;
double mean_p;
double mean_w;
double min_w;
double share_below;
double mu;
double sigma;
double grad_scale;
int64_t n_samples;
int64_t n_rows;
int64_t n_skipped;
int64_t n_infinite;
} cadft_loss_report;
int32_t cadft_loss_compute(cadft_loss *loss, const cadft_loss_batch *batch, int64_t n_samples,
const cadft_tensor *grad, float *row_scale, cadft_loss_report *report, cadft_error *error);
int32_t cadft_loss_begin(cadft_loss *loss, int64_t n_samples, cadft_error *error);
int32_t cadft_loss_observe(cadft_loss *loss, const cadft_loss_batch *batch, const cadft_tensor
*unit_grad, int64_t *micro, cadft_error *error);
int32_t cadft_loss_weigh(cadft_loss *loss, cadft_error *error);
int32_t cadft_loss_grad(cadft_loss *loss, int64_t micro, const cadft_loss_batch *batch, const
cadft_tensor *grad, cadft_error *error);
int32_t cadft_loss_end(cadft_loss *loss, cadft_loss_report *report, cadft_error *error);
int32_t cadft_loss_get_report(cadft_loss *loss, cadft_loss_report *report, cadft_error *error);
void cadft_loss_cancel(cadft_loss *loss);
enum { CADFT_EXCHANGE_ROW_MAX = 1, CADFT_EXCHANGE_ROW_SUM = 2, CADFT_EXCHANGE_SAMPLES = 3,
CADFT_EXCHANGE_MOMENTS = 4, CADFT_EXCHANGE_WEIGHTS = 5, CADFT_EXCHANGE_REPORT = 6 };
int32_t cadft_loss_export(cadft_loss *loss, int32_t kind, int64_t shard, int64_t n_shards, double
*out, size_t capacity, size_t *needed, cadft_error *error);
int32_t cadft_loss_import(cadft_loss *loss, int32_t kind, const double *values, size_t count,
cadft_error *error);
enum { CADFT_ROWS_NLL = 1, CADFT_ROWS_P = 2, CADFT_ROWS_ENTROPY = 3, CADFT_ROWS_K = 4,
CADFT_ROWS_SCALE = 5, CADFT_ROWS_LOSS = 6 };
enum { CADFT_SAMPLES_C = 1, CADFT_SAMPLES_CHAT = 2, CADFT_SAMPLES_W = 3, CADFT_SAMPLES_ROWS = 4 };
int32_t cadft_loss_get_rows(cadft_loss *loss, int64_t micro, int32_t what, double *out, size_t
capacity, size_t *needed, cadft_error *error);
int32_t cadft_loss_get_samples(cadft_loss *loss, int32_t what, double *out, size_t capacity, size_t
*needed, cadft_error *error);
int32_t cadft_loss_state_save(cadft_loss *loss, void *buffer, size_t capacity, size_t *needed,
cadft_error *error);
int32_t cadft_loss_state_load(cadft_loss *loss, const void *buffer, size_t size, cadft_error
*error);
typedef struct cadft_model cadft_model;
int32_t cadft_model_create(cadft_context *context, cadft_model **out, cadft_error *error);
void cadft_model_destroy(cadft_model *model);
enum { CADFT_MODEL_WEIGHT_DTYPE = 1, CADFT_MODEL_CHECKPOINTING = 2, CADFT_MODEL_PARAMETERS = 100,
CADFT_MODEL_ELEMENTS = 101, CADFT_MODEL_VOCAB = 102, CADFT_MODEL_HIDDEN = 103, CADFT_MODEL_LAYERS =
104, CADFT_MODEL_HEADS = 105, CADFT_MODEL_KV_HEADS = 106, CADFT_MODEL_HEAD_DIM = 107,
CADFT_MODEL_INTERMEDIATE = 108, CADFT_MODEL_POSITIONS = 109, CADFT_MODEL_WEIGHT_BYTES = 110,
CADFT_MODEL_GRAD_BYTES = 111, CADFT_MODEL_ARENA_BYTES = 112 };
int32_t cadft_model_set_i64(cadft_model *model, int32_t key, int64_t value, cadft_error *error);
int32_t cadft_model_set_f64(cadft_model *model, int32_t key, double value, cadft_error *error);
int32_t cadft_model_set_str(cadft_model *model, int32_t key, const char *value, cadft_error *error);
int32_t cadft_model_get_i64(cadft_model *model, int32_t key, int64_t *out, cadft_error *error);
int32_t cadft_model_get_f64(cadft_model *model, int32_t key, double *out, cadft_error *error);
int32_t cadft_model_get_str(cadft_model *model, int32_t key, char *buffer, size_t capacity, size_t
*needed, cadft_error *error);
int32_t cadft_model_bounds(int32_t key, int32_t *type, double *smallest, double *largest, double
*standard, cadft_error *error);
int32_t cadft_model_key(const char *name, int32_t *key, cadft_error *error);
int32_t cadft_model_key_at(int32_t index, const char **name, int32_t *key, cadft_error *error);
int32_t cadft_model_load(cadft_model *model, const char *folder, cadft_error *error);
int32_t cadft_model_init(cadft_model *model, const char *config, size_t length, uint64_t seed,
cadft_error *error);
int32_t cadft_model_save(cadft_model *model, const char *folder, cadft_error *error);
int32_t cadft_model_parameter(cadft_model *model, int64_t index, const char **name, cadft_tensor
*value, cadft_tensor *grad, int32_t *trainable, cadft_error *error);
int32_t cadft_model_find(cadft_model *model, const char *name, int64_t *out, cadft_error *error);
int32_t cadft_model_freeze(cadft_model *model, const char *pattern, int32_t trainable, int64_t
*matched, cadft_error *error);
typedef struct cadft_model_limits { uint32_t struct_size;
int32_t no_grad;
int64_t rows;
int64_t logit_rows;
int64_t sequences;
} cadft_model_limits;
int32_t cadft_model_plan(cadft_model *model, const cadft_model_limits *limits, int64_t *bytes,
cadft_error *error);
int32_t cadft_model_reserve(cadft_model *model, const cadft_model_limits *limits, cadft_error
*error);
typedef struct cadft_model_batch { uint32_t struct_size;
int32_t no_grad;
const cadft_tensor *tokens;
const cadft_tensor *cu_seqlens;
const cadft_tensor *lengths;
const cadft_tensor *logit_rows;
void *stream;
} cadft_model_batch;
int32_t cadft_model_forward(cadft_model *model, const cadft_model_batch *batch, cadft_tensor
*logits, cadft_error *error);
int32_t cadft_model_backward(cadft_model *model, const cadft_tensor *grad_logits, cadft_error
*error);
int32_t cadft_model_zero_grad(cadft_model *model, cadft_error *error);
typedef int32_t (*cadft_token_fn)(void *user, int64_t prompt, int64_t position, int32_t token,
double logprob);
typedef struct cadft_generate_desc { uint32_t struct_size;
int32_t reserved;
const cadft_tensor *tokens;
const cadft_tensor *cu_seqlens;
const cadft_tensor *lengths;
int64_t max_new_tokens;
double temperature;
double top_p;
const int32_t *stop_tokens;
int64_t n_stop_tokens;
uint64_t seed;
const int64_t *keys;
int64_t step;
cadft_token_fn on_token;
void *user;
int64_t n_prompts;
} cadft_generate_desc;
int32_t cadft_model_generate(cadft_model *model, const cadft_generate_desc *desc, int32_t *tokens,
int64_t *lengths, cadft_error *error);
typedef struct cadft_optimizer cadft_optimizer;
int32_t cadft_optimizer_create(cadft_context *context, cadft_optimizer **out, cadft_error *error);
void cadft_optimizer_destroy(cadft_optimizer *optimizer);
enum { CADFT_OPTIMIZER_KIND = 1, CADFT_OPTIMIZER_LR = 2, CADFT_OPTIMIZER_BETA1 = 3,
CADFT_OPTIMIZER_BETA2 = 4, CADFT_OPTIMIZER_EPS = 5, CADFT_OPTIMIZER_WEIGHT_DECAY = 6,
CADFT_OPTIMIZER_MOMENTUM = 7, CADFT_OPTIMIZER_NESTEROV = 8, CADFT_OPTIMIZER_MASTER = 9,
CADFT_OPTIMIZER_CLIP_NORM = 10, CADFT_OPTIMIZER_GRAD_SCALE = 11, CADFT_OPTIMIZER_NONFINITE = 12,
CADFT_OPTIMIZER_SCHEDULE = 13, CADFT_OPTIMIZER_PLANNED_STEPS = 14, CADFT_OPTIMIZER_WARMUP_STEPS =
15, CADFT_OPTIMIZER_WARMUP_FRACTION = 16, CADFT_OPTIMIZER_LR_FLOOR = 17, CADFT_OPTIMIZER_STEPS =
100, CADFT_OPTIMIZER_SKIPPED = 101, CADFT_OPTIMIZER_PARAMETERS = 102, CADFT_OPTIMIZER_STATE_BYTES =
103 };
enum { CADFT_KIND_ADAMW = 0, CADFT_KIND_SGD = 1 };
enum { CADFT_SCHEDULE_CONSTANT = 0, CADFT_SCHEDULE_LINEAR = 1, CADFT_SCHEDULE_COSINE = 2 };
int32_t cadft_optimizer_set_i64(cadft_optimizer *optimizer, int32_t key, int64_t value, cadft_error
*error);
int32_t cadft_optimizer_set_f64(cadft_optimizer *optimizer, int32_t key, double value, cadft_error
*error);
int32_t cadft_optimizer_set_str(cadft_optimizer *optimizer, int32_t key, const char *value,
cadft_error *error);
int32_t cadft_optimizer_get_i64(cadft_optimizer *optimizer, int32_t key, int64_t *out, cadft_error
*error);
int32_t cadft_optimizer_get_f64(cadft_optimizer *optimizer, int32_t key, double *out, cadft_error
*error);
int32_t cadft_optimizer_get_str(cadft_optimizer *optimizer, int32_t key, char *buffer, size_t
capacity, size_t *needed, cadft_error *error);
int32_t cadft_optimizer_bounds(int32_t key, int32_t *type, double *smallest, double *largest,
double *standard, cadft_error *error);
int32_t cadft_optimizer_key(const char *name, int32_t *key, cadft_error *error);
int32_t cadft_optimizer_key_at(int32_t index, const char **name, int32_t *key, cadft_error *error);
int32_t cadft_optimizer_add(cadft_optimizer *optimizer, const char *name, const cadft_tensor
*value, const cadft_tensor *grad, cadft_error *error);
int32_t cadft_optimizer_add_model(cadft_optimizer *optimizer, cadft_model *model, int64_t *added,
cadft_error *error);
int32_t cadft_optimizer_group(cadft_optimizer *optimizer, const char *pattern, double lr_scale,
double decay_scale, int64_t *matched, cadft_error *error);
int32_t cadft_optimizer_norm(cadft_optimizer *optimizer, double *sum_squares, cadft_error *error);
typedef struct cadft_optimizer_report { uint32_t struct_size;
int32_t skipped;
int64_t step;
double lr;
double grad_norm;
double clip;
int64_t skipped_total;
} cadft_optimizer_report;
int32_t cadft_optimizer_step(cadft_optimizer *optimizer, const double *sum_squares,
cadft_optimizer_report *report, cadft_error *error);
int32_t cadft_optimizer_lr(cadft_optimizer *optimizer, int64_t step, double *out, cadft_error
*error);
int32_t cadft_optimizer_save(cadft_optimizer *optimizer, const char *folder, cadft_error *error);
int32_t cadft_optimizer_load(cadft_optimizer *optimizer, const char *folder, cadft_error *error);
typedef struct cadft_rewrite cadft_rewrite;
int32_t cadft_rewrite_create(cadft_context *context, int64_t n_samples, cadft_rewrite **out,
cadft_error *error);
void cadft_rewrite_destroy(cadft_rewrite *rewrite);
enum { CADFT_REWRITE_SIGNAL = 1, CADFT_REWRITE_WARMUP_STEPS = 2, CADFT_REWRITE_WARMUP_FRACTION = 3,
CADFT_REWRITE_PLANNED_STEPS = 4, CADFT_REWRITE_INTERVAL = 5, CADFT_REWRITE_FRACTION = 6,
CADFT_REWRITE_PROBABILITY = 7, CADFT_REWRITE_DECAY = 8, CADFT_REWRITE_MIN_OBSERVATIONS = 9,
CADFT_REWRITE_THRESHOLD = 10, CADFT_REWRITE_CAP = 11, CADFT_REWRITE_MIN_LENGTH = 12,
CADFT_REWRITE_MAX_LENGTH = 13, CADFT_REWRITE_REQUIRE_END = 14, CADFT_REWRITE_REQUIRE_LOWER = 15,
CADFT_REWRITE_SEED = 16, CADFT_REWRITE_TOP_P = 17, CADFT_REWRITE_TEMPERATURE = 18,
CADFT_REWRITE_SAMPLES = 100, CADFT_REWRITE_OBSERVED = 101, CADFT_REWRITE_IGNORED = 102,
CADFT_REWRITE_OPEN = 103, CADFT_REWRITE_REWRITTEN = 104, CADFT_REWRITE_PICKED = 105,
CADFT_REWRITE_ACCEPTED = 106, CADFT_REWRITE_REJECTED = 107, CADFT_REWRITE_LAST_STEP = 108,
CADFT_REWRITE_BYTES = 109 };
enum { CADFT_SIGNAL_CHAT = 0, CADFT_SIGNAL_C = 1 };
int32_t cadft_rewrite_set_i64(cadft_rewrite *rewrite, int32_t key, int64_t value, cadft_error
*error);
int32_t cadft_rewrite_set_f64(cadft_rewrite *rewrite, int32_t key, double value, cadft_error
*error);
int32_t cadft_rewrite_set_str(cadft_rewrite *rewrite, int32_t key, const char *value, cadft_error
*error);
int32_t cadft_rewrite_get_i64(cadft_rewrite *rewrite, int32_t key, int64_t *out, cadft_error
*error);
int32_t cadft_rewrite_get_f64(cadft_rewrite *rewrite, int32_t key, double *out, cadft_error *error);
int32_t cadft_rewrite_get_str(cadft_rewrite *rewrite, int32_t key, char *buffer, size_t capacity,
size_t *needed, cadft_error *error);
int32_t cadft_rewrite_bounds(int32_t key, int32_t *type, double *smallest, double *largest, double
*standard, cadft_error *error);
int32_t cadft_rewrite_key(const char *name, int32_t *key, cadft_error *error);
int32_t cadft_rewrite_key_at(int32_t index, const char **name, int32_t *key, cadft_error *error);
int32_t cadft_rewrite_observe(cadft_rewrite *rewrite, const int64_t *ids, const double *c, const
double *chat, int64_t n, cadft_error *error);
typedef struct cadft_rewrite_info { uint32_t struct_size;
int32_t is_open;
double average;
double c;
int64_t observations;
int64_t rewrites;
int32_t is_rewritten;
int32_t reserved;
} cadft_rewrite_info;
int32_t cadft_rewrite_sample(cadft_rewrite *rewrite, int64_t id, cadft_rewrite_info *out,
cadft_error *error);
int32_t cadft_rewrite_due(cadft_rewrite *rewrite, int64_t step, int32_t *due, cadft_error *error);
int32_t cadft_rewrite_select(cadft_rewrite *rewrite, int64_t step, int64_t *ids, size_t capacity,
size_t *needed, cadft_error *error);
int32_t cadft_rewrite_open(cadft_rewrite *rewrite, int64_t *ids, size_t capacity, size_t *needed,
cadft_error *error);
void cadft_rewrite_cancel(cadft_rewrite *rewrite);
enum { CADFT_REJECTED_NOT = 0, CADFT_REJECTED_TOO_SHORT = 1, CADFT_REJECTED_TOO_LONG = 2,
CADFT_REJECTED_NOT_ENDED = 3, CADFT_REJECTED_NOT_LOWER = 4 };
typedef struct cadft_rewrite_result { uint32_t struct_size;
int32_t ended;
const int32_t *tokens;
int64_t n_tokens;
double c_new, c_old;
} cadft_rewrite_result;
int32_t cadft_rewrite_commit(cadft_rewrite *rewrite, int64_t id, const cadft_rewrite_result
*result, int32_t *rejected, cadft_error *error);
int32_t cadft_rewrite_reject(cadft_rewrite *rewrite, int64_t id, cadft_error *error);
int32_t cadft_rewrite_target(cadft_rewrite *rewrite, int64_t id, const int32_t **tokens, int64_t
*n, cadft_error *error);
int32_t cadft_rewrite_restore(cadft_rewrite *rewrite, int64_t id, cadft_error *error);
int32_t cadft_rewrite_state_save(cadft_rewrite *rewrite, void *buffer, size_t capacity, size_t
*needed, cadft_error *error);
int32_t cadft_rewrite_state_load(cadft_rewrite *rewrite, const void *buffer, size_t size,
cadft_error *error);
typedef struct cadft_checkpoint { uint32_t struct_size;
int32_t keep;
const char *folder;
int64_t step;
cadft_model *model;
cadft_optimizer *optimizer;
cadft_loss *loss;
cadft_rewrite *rewrite;
const void *host;
size_t host_bytes;
} cadft_checkpoint;
int32_t cadft_checkpoint_save(cadft_context *context, const cadft_checkpoint *checkpoint,
cadft_error *error);
int32_t cadft_checkpoint_find(cadft_context *context, const char *folder, int64_t before, int64_t
*step, cadft_error *error);
int32_t cadft_checkpoint_load(cadft_context *context, const cadft_checkpoint *checkpoint, void
*host, size_t capacity, size_t *host_bytes, cadft_error *error);
int32_t cadft_checkpoint_path(const char *folder, int64_t step, char *buffer, size_t capacity,
size_t *needed, cadft_error *error);
]]
