/* The keychains and their records, in memory or in a directory: see fake_keychain.h. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fake_corefoundation.h"
#include "fake_keychain.h"
#include "fake_keychain_parts.h"

#undef flock /* the real one */
int flock(int fd, int operation);

static struct store store = {.keychains = {{.name = "login", .is_searched = true}}};
static char directory[TEXT_MAX]; /* of `store`; empty: it is in memory only */
static FILE *guard;              /* locked while the store is open, if it is in a directory */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

/* ---- one at a time ---- */

static void enter(void) {
    (void)pthread_mutex_lock(&mutex);
}

static void leave(void) {
    (void)pthread_mutex_unlock(&mutex);
}

static void install_fork_handlers(void) {
    (void)pthread_atfork(enter, leave, leave);
}

static void forget_records(void) {
    while (store.records != NULL)
        fake_store_remove(&store, store.records);
}

static void reset(void) {
    forget_records();
    store = (struct store){.keychains = {{.name = "login", .is_searched = true}}};
}

static void path_of(const char *name, char path[2 * TEXT_MAX]) {
    (void)snprintf(path, 2 * TEXT_MAX, "%s/%s", directory, name);
}

static void must(bool done, const char *what) {
    fake_require(done, what);
}

static void read_store(void) {
    char path[2 * TEXT_MAX];
    struct facts facts;
    FILE *file;

    forget_records();
    path_of("keychains", path);
    if ((file = fopen(path, "re")) == NULL) {
        reset();
        return;
    }
    must(fread(&store, sizeof store, 1, file) == 1, "the keychains cannot be read");
    store.records = NULL;
    while (fread(&facts, sizeof facts, 1, file) == 1) {
        unsigned char *data = malloc(facts.size + 1);
        must(data != NULL && fread(data, 1, facts.size, file) == facts.size, "a record ends");
        (void)fake_store_insert(&store, &facts, data, facts.size);
        store.records->facts.place = facts.place;
        free(data);
    }
    (void)fclose(file);
}

static void write_store(void) {
    char path[2 * TEXT_MAX], new_path[2 * TEXT_MAX];
    FILE *file;

    path_of("keychains", path);
    path_of("keychains.new", new_path);
    must((file = fopen(new_path, "we")) != NULL, "the keychains cannot be written");
    must(fwrite(&store, sizeof store, 1, file) == 1, "the keychains cannot be written");
    for (const struct record *record = store.records; record != NULL; record = record->next)
        must(fwrite(&record->facts, sizeof record->facts, 1, file) == 1 &&
                 fwrite(record->data, 1, record->facts.size, file) == record->facts.size,
             "a record cannot be written");
    must(fclose(file) == 0 && rename(new_path, path) == 0, "the keychains cannot be written");
}

struct store *fake_store_open(void) {
    const char *wanted = getenv("FAKE_KEYCHAIN_DIRECTORY");
    char path[2 * TEXT_MAX];

    (void)pthread_once(&fork_handlers, install_fork_handlers);
    enter();
    if (wanted == NULL)
        wanted = "";
    if (strcmp(wanted, directory) != 0) {
        reset();
        (void)snprintf(directory, sizeof directory, "%s", wanted);
    }
    if (directory[0] != '\0') {
        path_of("guard", path);
        must((guard = fopen(path, "ae")) != NULL, "the directory of the keychains is not there");
        must(flock(fileno(guard), LOCK_EX) == 0, "the keychains cannot be locked");
        read_store();
    }
    return &store;
}

void fake_store_close(void) {
    if (guard != NULL) {
        write_store();
        (void)flock(fileno(guard), LOCK_UN);
        (void)fclose(guard);
    }
    guard = NULL;
    leave();
}

bool fake_store_is_shared(void) {
    const char *wanted = getenv("FAKE_KEYCHAIN_DIRECTORY");
    return wanted != NULL && wanted[0] != '\0';
}

unsigned fake_random(unsigned limit) {
    static _Thread_local unsigned state;
    if (state == 0)
        state = (unsigned)getpid();
    state = state * 1664525 + 1013904223;
    return (state >> 16) % limit;
}

int64_t fake_keychain_now(void) {
    return (int64_t)time(NULL) - 978307200 + fake_keychain.later;
}

/* ---- records ---- */

struct record *fake_store_find(const struct store *in, unsigned keychains, const char *service,
                               const char *account) {
    struct record *record = in->records;
    while (record != NULL && ((keychains >> record->facts.keychain & 1) == 0 ||
                              strcmp(record->facts.service, service) != 0 ||
                              strcmp(record->facts.account, account) != 0))
        record = record->next;
    return record;
}

static struct record *with_number(const struct store *in, uint32_t number) {
    struct record *record = in->records;
    while (record != NULL && record->facts.place.number != number)
        record = record->next;
    return record;
}

struct record *fake_store_at(const struct store *in, struct place place) {
    struct record *record = with_number(in, place.number);
    return record != NULL && record->facts.place.version == place.version ? record : NULL;
}

/* AppleDatabase.cpp, Table::getRecord: the number is free (DL_RECORD_NOT_FOUND), or belongs to a
 * younger record (DL_INVALID_RECORD_UID).  Item.cpp, ItemImpl::getContent: the record that was read
 * in between has another key (errSecInvalidItemRef). */
OSStatus fake_store_gone(const struct store *in, struct place place) {
    if (with_number(in, place.number) == NULL)
        return errSecItemNotFound;
    return fake_random(4) == 0 ? errSecInvalidItemRef : errSecInvalidRecord;
}

/* A number that is free: the lowest one, or the one after it. */
static uint32_t free_number(const struct store *in) {
    uint32_t number = 1;
    while (with_number(in, number) != NULL || fake_random(2) == 0)
        number++;
    return number;
}

struct record *fake_store_insert(struct store *in, const struct facts *facts, const void *data,
                                 size_t size) {
    struct record *record = calloc(1, sizeof *record);

    must(record != NULL && (record->data = malloc(size + 1)) != NULL, "out of memory");
    memcpy(record->data, data, size);
    record->facts = *facts;
    record->facts.size = size;
    record->facts.place = (struct place){free_number(in), ++in->versions};
    record->next = in->records;
    in->records = record;
    return record;
}

void fake_store_remove(struct store *in, struct record *record) {
    struct record **link = &in->records;
    while (*link != record)
        link = &(*link)->next;
    *link = record->next;
    free(record->data);
    free(record);
}

/* ---- keychains ---- */

int fake_store_keychain(const struct store *in, const char *name) {
    for (int i = 0; i < KEYCHAINS_MAX; i++) {
        if (strcmp(in->keychains[i].name, name) == 0)
            return i;
    }
    return -1;
}

void fake_keychain_set_default(const char *name, bool in_search_list) {
    struct store *opened = fake_store_open();
    int keychain = name == NULL ? -1 : fake_store_keychain(opened, name);

    if (name != NULL && keychain < 0) {
        must((keychain = fake_store_keychain(opened, "")) >= 0, "too many keychains");
        (void)snprintf(opened->keychains[keychain].name, TEXT_MAX, "%s", name);
    }
    if (keychain >= 0)
        opened->keychains[keychain].is_searched = in_search_list;
    opened->default_keychain = keychain;
    fake_store_close();
}

void fake_keychain_lock(const char *name) {
    struct store *opened = fake_store_open();
    opened->keychains[fake_store_keychain(opened, name)].is_locked = true;
    fake_store_close();
}

void fake_keychain_lose(const char *name) {
    struct store *opened = fake_store_open();
    opened->keychains[fake_store_keychain(opened, name)].is_gone = true;
    fake_store_close();
}

bool fake_keychain_is_locked(const char *name) {
    struct store *opened = fake_store_open();
    const bool locked = opened->keychains[fake_store_keychain(opened, name)].is_locked;
    fake_store_close();
    return locked;
}

void fake_keychain_clear(void) {
    (void)fake_store_open();
    reset();
    fake_store_close();
}

int fake_keychain_overlaps(void) {
    const int overlaps = fake_store_open()->overlaps;
    fake_store_close();
    return overlaps;
}

/* ---- the acts of another process ---- */

static struct record *find_default(const struct store *in, const char *service,
                                   const char *account) {
    return in->default_keychain < 0
               ? NULL
               : fake_store_find(in, 1u << in->default_keychain, service, account);
}

void fake_keychain_put(const char *service, const char *account, const void *data, size_t size) {
    struct store *opened = fake_store_open();
    struct record *former = find_default(opened, service, account);
    struct facts facts = {.keychain = opened->default_keychain};

    if (former != NULL) {
        facts = former->facts;
        fake_store_remove(opened, former);
    } else {
        (void)snprintf(facts.service, TEXT_MAX, "%s", service);
        (void)snprintf(facts.account, TEXT_MAX, "%s", account);
        (void)snprintf(facts.label, TEXT_MAX, "%s", service);
        fake_programs_add(&facts.access, fake_program());
    }
    facts.partitions = (struct programs){0};
    fake_programs_add(&facts.partitions, fake_program());
    facts.written = fake_keychain_now();
    (void)fake_store_insert(opened, &facts, data, size);
    fake_store_close();
}

bool fake_keychain_has(const char *service, const char *account, const char *label,
                       const void *data, size_t size) {
    const struct record *record = find_default(fake_store_open(), service, account);
    const bool has = record != NULL && strcmp(record->facts.label, label) == 0 &&
                     record->facts.size == size && memcmp(record->data, data, size) == 0;
    fake_store_close();
    return has;
}

void fake_keychain_break(const char *service, const char *account) {
    struct record *record = find_default(fake_store_open(), service, account);
    record->facts.is_broken = true;
    fake_store_close();
}
