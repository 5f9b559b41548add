/* The C interface of Tiercel: the calls of cache.h and session.h for programs and bindings in other languages.
 *
 * Rules. Handles are opaque; each has one free function, which takes NULL. A function that can fail returns
 * tiercel_status, TIERCEL_OK or a code of result.h; tiercel_last_error() then gives the sentence, for the calling
 * thread, until its next call. Hashes are 32 bytes. Nothing throws across this border. Handles may be freed in any
 * order. A tiercel_chain, _load, _reservation or _pin belongs to one thread at a time; caches and sessions to all. */
#ifndef TIERCEL_C_H_
#define TIERCEL_C_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TIERCEL_C_API __attribute__((visibility("default")))

typedef int32_t tiercel_status; /* 0, or an ErrorCode */
#define TIERCEL_OK 0

typedef struct tiercel_cache tiercel_cache;
typedef struct tiercel_session tiercel_session;
typedef struct tiercel_chain tiercel_chain;
typedef struct tiercel_load tiercel_load;
typedef struct tiercel_reservation tiercel_reservation;
typedef struct tiercel_pin tiercel_pin;

/* The sentence of the last failed call of this thread; "" if there was none. */
TIERCEL_C_API const char* tiercel_last_error(void);
/* "invalid_argument", ...; "ok" for 0. */
TIERCEL_C_API const char* tiercel_status_name(tiercel_status status);
/* "0.1.0" */
TIERCEL_C_API const char* tiercel_version(void);

/* Opens a cache from TOML text (the keys of the configuration file); NULL or "" means the defaults. */
TIERCEL_C_API tiercel_status tiercel_cache_open(const char* toml, tiercel_cache** cache);
TIERCEL_C_API tiercel_status tiercel_cache_close(tiercel_cache* cache, uint64_t deadline_ns);
TIERCEL_C_API void tiercel_cache_free(tiercel_cache* cache);
/* Prometheus text into `buffer` (always terminated if capacity > 0); *length is the full length without the end. */
TIERCEL_C_API tiercel_status tiercel_cache_metrics(const tiercel_cache* cache, char* buffer, size_t capacity,
                                                   size_t* length);

typedef struct tiercel_property {
  const char* key;
  const char* value;
} tiercel_property;

/* A model whose blocks are one opaque blob of at most block_bytes bytes. All pointers may be NULL where the count is
 * 0; strings are NUL-terminated UTF-8. struct_bytes = sizeof(tiercel_session_options). */
typedef struct tiercel_session_options {
  size_t struct_bytes;
  const char* model_name;
  const uint8_t* config_digest; /* 32 bytes or NULL for zeroes */
  const uint8_t* weights;       /* weight_count x 32 bytes */
  size_t weight_count;
  uint64_t weights_epoch;
  const char* kv_dtype;
  const tiercel_property* properties;
  size_t property_count;
  uint32_t block_tokens;
  uint64_t block_bytes;
} tiercel_session_options;

TIERCEL_C_API tiercel_status tiercel_session_open(tiercel_cache* cache, const tiercel_session_options* options,
                                                  tiercel_session** session);
TIERCEL_C_API void tiercel_session_close(tiercel_session* session);
TIERCEL_C_API void tiercel_session_free(tiercel_session* session);

/* The chain of `count` tokens in the namespace of `tenant` (NULL: the default tenant). */
TIERCEL_C_API tiercel_status tiercel_chain_create(const tiercel_session* session, const char* tenant,
                                                  const int32_t* tokens, size_t count, tiercel_chain** chain);
TIERCEL_C_API tiercel_status tiercel_chain_append(tiercel_chain* chain, const int32_t* tokens, size_t count);
TIERCEL_C_API size_t tiercel_chain_blocks(const tiercel_chain* chain);
/* Copies the hash of `block` into hash[32]. */
TIERCEL_C_API tiercel_status tiercel_chain_hash(const tiercel_chain* chain, size_t block, uint8_t* hash);
TIERCEL_C_API void tiercel_chain_free(tiercel_chain* chain);

/* *blocks: how many leading blocks can be served. */
TIERCEL_C_API tiercel_status tiercel_match(const tiercel_session* session, const tiercel_chain* chain, size_t* blocks);

TIERCEL_C_API tiercel_status tiercel_load_start(tiercel_session* session, const tiercel_chain* chain, size_t blocks,
                                                uint64_t deadline_ns, tiercel_load** load);
/* Waits at most the load's deadline; *ready: how many leading blocks it holds; *outcome: a LoadOutcome. */
TIERCEL_C_API tiercel_status tiercel_load_wait(tiercel_load* load, size_t* ready, int32_t* outcome);
/* The bytes of a block, valid until the load is freed. */
TIERCEL_C_API tiercel_status tiercel_load_bytes(const tiercel_load* load, size_t block, const void** bytes,
                                                size_t* size);
TIERCEL_C_API void tiercel_load_free(tiercel_load* load);

TIERCEL_C_API tiercel_status tiercel_reserve(tiercel_session* session, const tiercel_chain* chain, size_t first,
                                             size_t count, tiercel_reservation** reservation);
TIERCEL_C_API size_t tiercel_reservation_size(const tiercel_reservation* reservation);
/* A Reserved value, or -1 for an index out of range. */
TIERCEL_C_API int32_t tiercel_reservation_outcome(const tiercel_reservation* reservation, size_t i);
/* The writable bytes of block i, if its outcome is "yes" and it is neither committed nor aborted. */
TIERCEL_C_API tiercel_status tiercel_writer_bytes(tiercel_reservation* reservation, size_t i, void** bytes,
                                                  size_t* size);
/* size 0: all bytes of the block. */
TIERCEL_C_API tiercel_status tiercel_writer_commit(tiercel_reservation* reservation, size_t i, size_t size);
/* Commits several writers in one call: those of the blocks[0] ... blocks[count - 1] of the reservation, each with its
 * size of `sizes` (0, or `sizes` NULL: all bytes). The failure of one keeps none of the others back; `statuses` (or
 * NULL) gets one status for each, and the call answers the first that is not TIERCEL_OK, with its sentence. */
TIERCEL_C_API tiercel_status tiercel_reservation_commit(tiercel_reservation* reservation, const size_t* blocks,
                                                        const size_t* sizes, size_t count, tiercel_status* statuses);
TIERCEL_C_API tiercel_status tiercel_writer_abort(tiercel_reservation* reservation, size_t i);
TIERCEL_C_API void tiercel_reservation_free(tiercel_reservation* reservation);

TIERCEL_C_API tiercel_status tiercel_pin_blocks(tiercel_session* session, const tiercel_chain* chain, size_t blocks,
                                                uint64_t ttl_ns, tiercel_pin** pin);
TIERCEL_C_API size_t tiercel_pin_count(const tiercel_pin* pin);
TIERCEL_C_API void tiercel_pin_free(tiercel_pin* pin);

/* Deletes block `first` of the chain and all that continues it. Counts may be NULL. */
TIERCEL_C_API tiercel_status tiercel_drop(tiercel_session* session, const tiercel_chain* chain, size_t first,
                                          uint64_t* blocks, uint64_t* pending);

#ifdef __cplusplus
}
#endif
#endif /* TIERCEL_C_H_ */
