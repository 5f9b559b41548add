/* Goal: every call of tiercel/c.h does what cache.h and session.h promise, from a C11 program; every misuse that C
 * allows gets a code and a sentence; handles may be freed in any order. */
#include <tiercel/c.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                                         \
  do {                                                                                           \
    if (!(condition)) {                                                                          \
      ++failures;                                                                                \
      fprintf(stderr, "%s:%d: %s [%s]\n", __FILE__, __LINE__, #condition, tiercel_last_error()); \
    }                                                                                            \
  } while (0)

/* The call fails with this code, and its sentence has this text in it. */
#define CHECK_FAILS(call, name, text)                                                                        \
  do {                                                                                                       \
    const tiercel_status status_ = (call);                                                                   \
    if (strcmp(tiercel_status_name(status_), (name)) != 0 || strstr(tiercel_last_error(), (text)) == NULL) { \
      ++failures;                                                                                            \
      fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, tiercel_status_name(status_),        \
              tiercel_last_error());                                                                         \
    }                                                                                                        \
  } while (0)

enum { kBlockTokens = 16, kBlocks = 5, kBlockBytes = 12288 };
enum { kComplete = 0, kMiss = 1, kLoadClosed = 5 };                /* LoadOutcome */
enum { kYes = 0, kExists = 1, kInFlight = 2, kReserveClosed = 5 }; /* Reserved */
static const uint64_t kSecond = 1000000000u;

static const char* const kConfig =
    "host.capacity = \"8MiB\"\n"
    "host.extent_bytes = \"2MiB\"\n"
    "host.min_slot_bytes = \"4KiB\"\n"
    "limits.pin_max_ttl = \"1min\"\n"
    "workers.threads = 1\n";

static int32_t tokens[kBlockTokens * kBlocks];

static tiercel_session_options options_of(const char* model) {
  tiercel_session_options options;
  memset(&options, 0, sizeof options);
  options.struct_bytes = sizeof options;
  options.model_name = model;
  options.kv_dtype = "f16";
  options.weights_epoch = (uint64_t)(unsigned char)model[0];
  options.block_tokens = kBlockTokens;
  options.block_bytes = kBlockBytes;
  return options;
}

static tiercel_cache* open_cache(void) {
  tiercel_cache* cache = NULL;
  CHECK(tiercel_cache_open(kConfig, &cache) == TIERCEL_OK);
  return cache;
}

static tiercel_session* open_session(tiercel_cache* cache, const char* model) {
  const tiercel_session_options options = options_of(model);
  tiercel_session* session = NULL;
  CHECK(tiercel_session_open(cache, &options, &session) == TIERCEL_OK);
  return session;
}

static tiercel_chain* make_chain(const tiercel_session* session, size_t blocks) {
  tiercel_chain* chain = NULL;
  CHECK(tiercel_chain_create(session, NULL, tokens, blocks * kBlockTokens, &chain) == TIERCEL_OK);
  CHECK(tiercel_chain_blocks(chain) == blocks);
  return chain;
}

static unsigned char byte_of(size_t block, size_t i) { return (unsigned char)(block * 31 + i * 7 + 1); }

/* Block b commits kBlockBytes - b bytes, so that sizes tell blocks apart. */
static void store_all(tiercel_session* session, const tiercel_chain* chain) {
  tiercel_reservation* room = NULL;
  CHECK(tiercel_reserve(session, chain, 0, SIZE_MAX, &room) == TIERCEL_OK);
  CHECK(tiercel_reservation_size(room) == tiercel_chain_blocks(chain));
  for (size_t b = 0; b < tiercel_reservation_size(room); ++b) {
    void* bytes = NULL;
    size_t size = 0;
    CHECK(tiercel_reservation_outcome(room, b) == kYes);
    CHECK(tiercel_writer_bytes(room, b, &bytes, &size) == TIERCEL_OK);
    CHECK(size == kBlockBytes);
    if (bytes == NULL) continue;
    for (size_t i = 0; i < size; ++i) ((unsigned char*)bytes)[i] = byte_of(b, i);
    CHECK(tiercel_writer_commit(room, b, b == 0 ? 0 : size - b) == TIERCEL_OK);
  }
  tiercel_reservation_free(room);
}

static void check_bytes(const tiercel_load* load, size_t blocks) {
  for (size_t b = 0; b < blocks; ++b) {
    const void* bytes = NULL;
    size_t size = 0;
    CHECK(tiercel_load_bytes(load, b, &bytes, &size) == TIERCEL_OK);
    CHECK(size == kBlockBytes - b);
    size_t wrong = bytes == NULL ? 1 : 0;
    for (size_t i = 0; bytes != NULL && i < size; ++i) wrong += ((const unsigned char*)bytes)[i] != byte_of(b, i);
    CHECK(wrong == 0);
  }
}

static void test_names(void) {
  CHECK(strcmp(tiercel_version(), "0.1.0") == 0);
  CHECK(strcmp(tiercel_status_name(TIERCEL_OK), "ok") == 0);
  CHECK(strcmp(tiercel_status_name(1), "invalid_argument") == 0);
  CHECK(strcmp(tiercel_status_name(99), "unknown") == 0);
  CHECK(strcmp(tiercel_status_name(257), "unknown") == 0);
  CHECK(strcmp(tiercel_status_name(-1), "unknown") == 0);
  CHECK(strcmp(tiercel_last_error(), "") == 0);
}

static void test_open(void) {
  tiercel_cache* cache = (tiercel_cache*)&failures; /* any pointer: it must come back NULL */
  CHECK_FAILS(tiercel_cache_open("host.capacty = 1", &cache), "unknown_key",
              "toml:1: unknown key host.capacty; did you mean host.capacity?");
  CHECK(cache == NULL);
  CHECK_FAILS(tiercel_cache_open("host = [", &cache), "invalid_argument", "toml:1: ");
  CHECK_FAILS(tiercel_cache_open("", NULL), "invalid_argument", "cache is NULL");
  tiercel_cache_free(NULL);
}

static void test_session_options(tiercel_cache* cache) {
  tiercel_session* session = NULL;
  tiercel_session_options options = options_of("m");
  CHECK_FAILS(tiercel_session_open(NULL, &options, &session), "invalid_argument", "cache is NULL");
  CHECK_FAILS(tiercel_session_open(cache, NULL, &session), "invalid_argument", "options is NULL");
  CHECK_FAILS(tiercel_session_open(cache, &options, NULL), "invalid_argument", "session is NULL");
  options.struct_bytes = 8;
  CHECK_FAILS(tiercel_session_open(cache, &options, &session), "invalid_argument", "options.struct_bytes: 8 is not");
  options = options_of("m");
  options.weight_count = 2;
  CHECK_FAILS(tiercel_session_open(cache, &options, &session), "invalid_argument",
              "options.weights is NULL, but its count is 2");
  options = options_of("m");
  options.property_count = 1;
  CHECK_FAILS(tiercel_session_open(cache, &options, &session), "invalid_argument", "options.properties is NULL");
  const tiercel_property half[2] = {{"rope", "1"}, {"scale", NULL}};
  options.properties = half;
  options.property_count = 2;
  CHECK_FAILS(tiercel_session_open(cache, &options, &session), "invalid_argument",
              "options.properties[1].value is NULL");
  const tiercel_property twice[2] = {{"rope", "1"}, {"rope", "2"}};
  options.properties = twice;
  CHECK_FAILS(tiercel_session_open(cache, &options, &session), "invalid_argument", "rope");
  options = options_of("m");
  options.block_bytes = 0;
  CHECK_FAILS(tiercel_session_open(cache, &options, &session), "invalid_argument", "");
  options.block_bytes = UINT64_MAX;
  CHECK_FAILS(tiercel_session_open(cache, &options, &session), "invalid_argument", "a block would be more than");
  options.block_bytes = 1 << 20; /* more than a quarter of an extent: the error names the key to change */
  CHECK_FAILS(tiercel_session_open(cache, &options, &session), "invalid_argument", "host.extent_bytes");
  options = options_of("m");
  options.block_tokens = 0;
  CHECK_FAILS(tiercel_session_open(cache, &options, &session), "invalid_argument", "block_tokens");
  CHECK(session == NULL);
  tiercel_session_close(NULL);
  tiercel_session_free(NULL);
}

static void test_chains(tiercel_cache* cache) {
  tiercel_session* session = open_session(cache, "m");
  tiercel_chain* whole = make_chain(session, kBlocks);
  tiercel_chain* grown = make_chain(session, 1);
  uint8_t a[32];
  uint8_t b[32];
  CHECK(tiercel_chain_append(grown, tokens + kBlockTokens, kBlockTokens + 3) == TIERCEL_OK);
  CHECK(tiercel_chain_blocks(grown) == 2); /* three tokens wait for the rest of their block */
  CHECK(tiercel_chain_hash(whole, 1, a) == TIERCEL_OK && tiercel_chain_hash(grown, 1, b) == TIERCEL_OK);
  CHECK(memcmp(a, b, sizeof a) == 0);
  tiercel_chain* other = NULL;
  CHECK(tiercel_chain_create(session, "someone", tokens, kBlockTokens, &other) == TIERCEL_OK);
  CHECK(tiercel_chain_hash(other, 0, b) == TIERCEL_OK && tiercel_chain_hash(whole, 0, a) == TIERCEL_OK);
  CHECK(memcmp(a, b, sizeof a) != 0); /* tenants share nothing */
  tiercel_chain_free(other);
  CHECK(tiercel_chain_create(session, NULL, NULL, 0, &other) == TIERCEL_OK && tiercel_chain_blocks(other) == 0);

  CHECK_FAILS(tiercel_chain_hash(whole, kBlocks, a), "invalid_argument", "block 5 of 5; the first is 0");
  CHECK_FAILS(tiercel_chain_hash(whole, 0, NULL), "invalid_argument", "hash is NULL");
  CHECK_FAILS(tiercel_chain_hash(NULL, 0, a), "invalid_argument", "chain is NULL");
  CHECK_FAILS(tiercel_chain_append(whole, NULL, 3), "invalid_argument", "tokens is NULL, but its count is 3");
  CHECK_FAILS(tiercel_chain_append(NULL, tokens, 3), "invalid_argument", "chain is NULL");
  tiercel_chain* none = NULL;
  CHECK_FAILS(tiercel_chain_create(NULL, NULL, tokens, 1, &none), "invalid_argument", "session is NULL");
  CHECK_FAILS(tiercel_chain_create(session, NULL, NULL, 1, &none), "invalid_argument", "tokens is NULL");
  CHECK_FAILS(tiercel_chain_create(session, NULL, tokens, 1, NULL), "invalid_argument", "chain is NULL");
  CHECK(tiercel_chain_blocks(NULL) == 0);
  tiercel_chain_free(other);
  tiercel_chain_free(grown);
  tiercel_chain_free(whole);
  tiercel_chain_free(NULL);
  tiercel_session_free(session);
}

static void test_store_and_load(tiercel_cache* cache) {
  tiercel_session* session = open_session(cache, "store");
  tiercel_chain* chain = make_chain(session, kBlocks);
  size_t blocks = 99;
  CHECK(tiercel_match(session, chain, &blocks) == TIERCEL_OK && blocks == 0);
  store_all(session, chain);
  CHECK(tiercel_match(session, chain, &blocks) == TIERCEL_OK && blocks == kBlocks);

  tiercel_load* load = NULL;
  size_t ready = 0;
  int32_t outcome = -1;
  const void* bytes = NULL;
  CHECK(tiercel_load_start(session, chain, kBlocks, kSecond, &load) == TIERCEL_OK);
  CHECK_FAILS(tiercel_load_bytes(load, 0, &bytes, &ready), "invalid_argument", "has not been waited for");
  CHECK(tiercel_load_wait(load, &ready, &outcome) == TIERCEL_OK);
  CHECK(ready == kBlocks && outcome == kComplete);
  check_bytes(load, kBlocks);
  CHECK(tiercel_load_wait(load, &ready, &outcome) == TIERCEL_OK && ready == kBlocks);
  CHECK_FAILS(tiercel_load_bytes(load, kBlocks, &bytes, &ready), "invalid_argument", "block 5 of 5");
  CHECK_FAILS(tiercel_load_bytes(load, 0, NULL, &ready), "invalid_argument", "bytes is NULL");
  CHECK_FAILS(tiercel_load_bytes(load, 0, &bytes, NULL), "invalid_argument", "size is NULL");
  CHECK_FAILS(tiercel_load_bytes(NULL, 0, &bytes, &ready), "invalid_argument", "load is NULL");
  CHECK_FAILS(tiercel_load_wait(load, NULL, &outcome), "invalid_argument", "ready is NULL");
  CHECK_FAILS(tiercel_load_wait(load, &ready, NULL), "invalid_argument", "outcome is NULL");
  CHECK_FAILS(tiercel_load_wait(NULL, &ready, &outcome), "invalid_argument", "load is NULL");
  tiercel_load_free(load);

  /* Another model has none of these blocks, whichever session is asked. */
  tiercel_session* other = open_session(cache, "other");
  tiercel_chain* foreign = make_chain(other, kBlocks);
  CHECK(tiercel_match(other, foreign, &blocks) == TIERCEL_OK && blocks == 0);
  CHECK(tiercel_load_start(other, foreign, kBlocks, kSecond, &load) == TIERCEL_OK);
  CHECK(tiercel_load_wait(load, &ready, &outcome) == TIERCEL_OK && ready == 0 && outcome == kMiss);
  tiercel_load_free(load);

  CHECK_FAILS(tiercel_load_start(session, chain, kBlocks + 1, 0, &load), "invalid_argument",
              "6 blocks of a chain that has 5");
  CHECK(load == NULL);
  CHECK_FAILS(tiercel_load_start(NULL, chain, 1, 0, &load), "invalid_argument", "session is NULL");
  CHECK_FAILS(tiercel_load_start(session, NULL, 1, 0, &load), "invalid_argument", "chain is NULL");
  CHECK_FAILS(tiercel_load_start(session, chain, 1, 0, NULL), "invalid_argument", "load is NULL");
  CHECK_FAILS(tiercel_match(session, chain, NULL), "invalid_argument", "blocks is NULL");
  CHECK_FAILS(tiercel_match(session, NULL, &blocks), "invalid_argument", "chain is NULL");
  CHECK_FAILS(tiercel_match(NULL, chain, &blocks), "invalid_argument", "session is NULL");
  tiercel_load_free(NULL);
  tiercel_chain_free(foreign);
  tiercel_chain_free(chain);
  tiercel_session_free(other);
  tiercel_session_free(session);
}

static void test_writers(tiercel_cache* cache) {
  tiercel_session* session = open_session(cache, "writers");
  tiercel_chain* chain = make_chain(session, kBlocks);
  tiercel_reservation* room = NULL;
  tiercel_reservation* second = NULL;
  void* bytes = NULL;
  size_t size = 0;
  CHECK(tiercel_reserve(session, chain, 0, 2, &room) == TIERCEL_OK);
  CHECK(tiercel_reservation_size(room) == 2);
  CHECK(tiercel_writer_bytes(room, 0, &bytes, &size) == TIERCEL_OK);
  if (bytes != NULL) memset(bytes, 1, size);
  CHECK_FAILS(tiercel_writer_commit(room, 0, kBlockBytes + 1), "invalid_argument", "");
  CHECK(tiercel_writer_commit(room, 0, 100) == TIERCEL_OK);
  CHECK_FAILS(tiercel_writer_commit(room, 0, 100), "invalid_argument", "block 0 was committed or aborted");
  CHECK_FAILS(tiercel_writer_bytes(room, 0, &bytes, &size), "invalid_argument", "block 0 was committed or aborted");

  CHECK(tiercel_reserve(session, chain, 0, 2, &second) == TIERCEL_OK);
  CHECK(tiercel_reservation_outcome(second, 0) == kExists);
  CHECK(tiercel_reservation_outcome(second, 1) == kInFlight);
  CHECK(tiercel_reservation_outcome(second, 2) == -1);
  CHECK_FAILS(tiercel_writer_bytes(second, 1, &bytes, &size), "invalid_argument",
              "block 1 has no writer: its outcome is 2");
  tiercel_reservation_free(second);

  CHECK(tiercel_writer_abort(room, 1) == TIERCEL_OK);
  CHECK_FAILS(tiercel_writer_abort(room, 1), "invalid_argument", "block 1 was committed or aborted");
  tiercel_reservation_free(room);
  CHECK(tiercel_match(session, chain, &size) == TIERCEL_OK && size == 1);

  /* Dropped without commit: nothing happened. */
  CHECK(tiercel_reserve(session, chain, 1, SIZE_MAX, &room) == TIERCEL_OK);
  CHECK(tiercel_reservation_size(room) == kBlocks - 1);
  CHECK_FAILS(tiercel_writer_commit(room, kBlocks, 0), "invalid_argument", "block 5 of 4");
  CHECK_FAILS(tiercel_writer_commit(NULL, 0, 0), "invalid_argument", "reservation is NULL");
  CHECK_FAILS(tiercel_writer_abort(NULL, 0), "invalid_argument", "reservation is NULL");
  CHECK_FAILS(tiercel_writer_bytes(NULL, 0, &bytes, &size), "invalid_argument", "reservation is NULL");
  CHECK_FAILS(tiercel_writer_bytes(room, 0, NULL, &size), "invalid_argument", "bytes is NULL");
  CHECK_FAILS(tiercel_writer_bytes(room, 0, &bytes, NULL), "invalid_argument", "size is NULL");
  tiercel_reservation_free(room);
  CHECK(tiercel_match(session, chain, &size) == TIERCEL_OK && size == 1);

  CHECK(tiercel_reserve(session, chain, kBlocks, SIZE_MAX, &room) == TIERCEL_OK && tiercel_reservation_size(room) == 0);
  tiercel_reservation_free(room);
  CHECK_FAILS(tiercel_reserve(session, chain, kBlocks + 1, 1, &room), "invalid_argument", "6 blocks of a chain");
  CHECK_FAILS(tiercel_reserve(NULL, chain, 0, 1, &room), "invalid_argument", "session is NULL");
  CHECK_FAILS(tiercel_reserve(session, NULL, 0, 1, &room), "invalid_argument", "chain is NULL");
  CHECK_FAILS(tiercel_reserve(session, chain, 0, 1, NULL), "invalid_argument", "reservation is NULL");
  CHECK(tiercel_reservation_size(NULL) == 0 && tiercel_reservation_outcome(NULL, 0) == -1);
  tiercel_reservation_free(NULL);
  tiercel_chain_free(chain);
  tiercel_session_free(session);
}

static void test_commits_of_several(tiercel_cache* cache) {
  tiercel_session* session = open_session(cache, "together");
  tiercel_chain* chain = make_chain(session, kBlocks);
  tiercel_reservation* room = NULL;
  CHECK(tiercel_reserve(session, chain, 0, 4, &room) == TIERCEL_OK);
  const size_t two[2] = {0, 1};
  const size_t sizes[2] = {0, 100};
  CHECK(tiercel_reservation_commit(room, two, sizes, 2, NULL) == TIERCEL_OK);
  const size_t some[4] = {2, 1, 3, 3}; /* 1 is committed, 3 stands twice */
  tiercel_status statuses[4] = {-1, -1, -1, -1};
  CHECK_FAILS(tiercel_reservation_commit(room, some, NULL, 4, statuses), "invalid_argument", "committed or aborted");
  CHECK(statuses[0] == TIERCEL_OK && statuses[1] == 1 && statuses[2] == TIERCEL_OK && statuses[3] == 1);
  const size_t beyond[2] = {0, 4};
  CHECK_FAILS(tiercel_reservation_commit(room, beyond, NULL, 2, statuses), "invalid_argument", "block 4 of 4");
  CHECK_FAILS(tiercel_reservation_commit(room, NULL, NULL, 1, NULL), "invalid_argument", "blocks is NULL");
  CHECK_FAILS(tiercel_reservation_commit(NULL, two, NULL, 2, NULL), "invalid_argument", "reservation is NULL");
  CHECK(tiercel_reservation_commit(room, NULL, NULL, 0, NULL) == TIERCEL_OK);
  tiercel_reservation_free(room);
  size_t blocks = 0;
  CHECK(tiercel_match(session, chain, &blocks) == TIERCEL_OK && blocks == 4);
  tiercel_chain_free(chain);
  tiercel_session_free(session);
}

static void test_pins_and_drops(tiercel_cache* cache) {
  tiercel_session* session = open_session(cache, "pins");
  tiercel_chain* chain = make_chain(session, kBlocks);
  store_all(session, chain);
  tiercel_pin* pin = NULL;
  CHECK(tiercel_pin_blocks(session, chain, 3, kSecond, &pin) == TIERCEL_OK && tiercel_pin_count(pin) == 3);
  tiercel_pin_free(pin);
  CHECK_FAILS(tiercel_pin_blocks(session, chain, 3, 61 * kSecond, &pin), "invalid_argument", "limits.pin_max_ttl");
  CHECK_FAILS(tiercel_pin_blocks(session, chain, 3, UINT64_MAX, &pin), "invalid_argument", "limits.pin_max_ttl");
  CHECK_FAILS(tiercel_pin_blocks(session, chain, 6, kSecond, &pin), "invalid_argument", "6 blocks of a chain");
  CHECK_FAILS(tiercel_pin_blocks(NULL, chain, 1, kSecond, &pin), "invalid_argument", "session is NULL");
  CHECK_FAILS(tiercel_pin_blocks(session, NULL, 1, kSecond, &pin), "invalid_argument", "chain is NULL");
  CHECK_FAILS(tiercel_pin_blocks(session, chain, 1, kSecond, NULL), "invalid_argument", "pin is NULL");
  CHECK(pin == NULL && tiercel_pin_count(NULL) == 0);
  tiercel_pin_free(NULL);

  uint64_t dropped = 0;
  uint64_t pending = 99;
  size_t blocks = 0;
  CHECK(tiercel_drop(session, chain, 3, &dropped, &pending) == TIERCEL_OK && dropped == 2 && pending == 0);
  CHECK(tiercel_match(session, chain, &blocks) == TIERCEL_OK && blocks == 3);
  CHECK(tiercel_drop(session, chain, 0, NULL, NULL) == TIERCEL_OK);
  CHECK(tiercel_match(session, chain, &blocks) == TIERCEL_OK && blocks == 0);
  CHECK_FAILS(tiercel_drop(session, chain, kBlocks, NULL, NULL), "invalid_argument", "block 5 of 5");
  CHECK_FAILS(tiercel_drop(NULL, chain, 0, NULL, NULL), "invalid_argument", "session is NULL");
  CHECK_FAILS(tiercel_drop(session, NULL, 0, NULL, NULL), "invalid_argument", "chain is NULL");
  tiercel_chain_free(chain);
  tiercel_session_free(session);
}

static void test_metrics(const tiercel_cache* cache) {
  static char text[65536];
  char small[16];
  size_t length = 0;
  size_t again = 0;
  CHECK(tiercel_cache_metrics(cache, NULL, 0, &length) == TIERCEL_OK && length > 1000 && length < sizeof text);
  CHECK(tiercel_cache_metrics(cache, text, sizeof text, &length) == TIERCEL_OK && strlen(text) == length);
  CHECK(strstr(text, "\ntiercel_store_blocks_total{tier=\"host\"} ") != NULL);
  memset(small, 'x', sizeof small);
  CHECK(tiercel_cache_metrics(cache, small, sizeof small, &again) == TIERCEL_OK && again > sizeof small);
  CHECK(small[15] == '\0' && memcmp(small, text, 15) == 0);
  CHECK_FAILS(tiercel_cache_metrics(NULL, text, 1, &length), "invalid_argument", "cache is NULL");
  CHECK_FAILS(tiercel_cache_metrics(cache, NULL, 1, &length), "invalid_argument", "buffer is NULL");
  CHECK_FAILS(tiercel_cache_metrics(cache, text, 1, NULL), "invalid_argument", "length is NULL");
}

static void test_handles_outlive_what_made_them(void) {
  tiercel_cache* cache = open_cache();
  tiercel_session* session = open_session(cache, "order");
  tiercel_chain* chain = make_chain(session, kBlocks);
  store_all(session, chain);
  tiercel_load* load = NULL;
  tiercel_pin* pin = NULL;
  tiercel_reservation* room = NULL;
  tiercel_chain* longer = make_chain(session, kBlocks);
  size_t ready = 0;
  int32_t outcome = -1;
  CHECK(tiercel_load_start(session, chain, kBlocks, kSecond, &load) == TIERCEL_OK);
  CHECK(tiercel_load_wait(load, &ready, &outcome) == TIERCEL_OK && ready == kBlocks);
  CHECK(tiercel_pin_blocks(session, chain, 1, kSecond, &pin) == TIERCEL_OK);
  CHECK(tiercel_chain_append(longer, tokens, kBlockTokens) == TIERCEL_OK);
  CHECK(tiercel_reserve(session, longer, kBlocks, 1, &room) == TIERCEL_OK);

  /* The load's five blocks and the writer's one are in use: a close waits for them, and says how many there are. */
  CHECK_FAILS(tiercel_cache_close(cache, 1000), "timeout", "6 slots are still being read or written");
  tiercel_session* late = NULL;
  const tiercel_session_options options = options_of("late");
  CHECK_FAILS(tiercel_session_open(cache, &options, &late), "closed", "");
  tiercel_cache_free(cache);
  check_bytes(load, kBlocks); /* what a handle reaches stays mapped */
  tiercel_load* after = NULL;
  CHECK(tiercel_load_start(session, chain, 1, kSecond, &after) == TIERCEL_OK);
  CHECK(tiercel_load_wait(after, &ready, &outcome) == TIERCEL_OK && ready == 0 && outcome == kLoadClosed);
  tiercel_reservation* closed = NULL;
  CHECK(tiercel_reserve(session, longer, 0, 1, &closed) == TIERCEL_OK);
  CHECK(tiercel_reservation_size(closed) == 0 || tiercel_reservation_outcome(closed, 0) == kReserveClosed);
  CHECK_FAILS(tiercel_drop(session, chain, 0, NULL, NULL), "closed", "");
  CHECK(tiercel_writer_commit(room, 0, 0) != TIERCEL_OK);
  tiercel_session_free(session);
  check_bytes(load, kBlocks);
  tiercel_reservation_free(closed);
  tiercel_reservation_free(room);
  tiercel_pin_free(pin);
  tiercel_load_free(after);
  tiercel_load_free(load);
  tiercel_chain_free(longer);
  tiercel_chain_free(chain);
  CHECK_FAILS(tiercel_cache_close(NULL, 0), "invalid_argument", "cache is NULL");
}

int main(void) {
  for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; ++i) tokens[i] = (int32_t)(i * 13 % 50000);
  test_names();
  test_open();
  tiercel_cache* cache = open_cache();
  if (cache == NULL) return 1;
  test_session_options(cache);
  test_chains(cache);
  test_store_and_load(cache);
  test_writers(cache);
  test_commits_of_several(cache);
  test_pins_and_drops(cache);
  test_metrics(cache);
  CHECK(tiercel_cache_close(cache, kSecond) == TIERCEL_OK);
  tiercel_cache_free(cache);
  test_handles_outlive_what_made_them();
  if (failures == 0) printf("c_api_test: ok\n");
  return failures == 0 ? 0 : 1;
}
