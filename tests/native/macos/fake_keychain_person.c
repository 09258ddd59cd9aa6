/* The program that calls the keychain, the person that answers its dialogs, injected failures, the
 * log, and words about failures: see fake_keychain.h. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fake_corefoundation.h"
#include "fake_keychain.h"
#include "fake_keychain_parts.h"

enum { MISTAKEN_MS = 3100, RULES_MAX = 8 };

struct fake_keychain fake_keychain;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t returned = PTHREAD_COND_INITIALIZER;
static int returns;       /* how often the person has come back */
static atomic_int inside; /* threads of this process */
static atomic_bool dialogs = true;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

static void sleep_us(long us) {
    const struct timespec length = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &length, NULL);
}

/* The threads that were inside are the parent's. */
static void after_fork_in_child(void) {
    atomic_store(&inside, 0);
    returned = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    (void)pthread_mutex_unlock(&mutex);
}

static void enter(void) {
    (void)pthread_mutex_lock(&mutex);
}

static void leave(void) {
    (void)pthread_mutex_unlock(&mutex);
}

static void install_fork_handlers(void) {
    (void)pthread_atfork(enter, leave, after_fork_in_child);
}

/* ---- the program ---- */

const char *fake_program(void) {
    const char *chosen = getenv("FAKE_PROGRAM");
    return chosen == NULL ? program_invocation_short_name : chosen;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

bool fake_programs_have(const struct programs *programs, const char *program) {
    for (int i = 0; i < PROGRAMS_MAX; i++) {
        if (strcmp(programs->names[i], program) == 0)
            return true;
    }
    return false;
}

bool fake_programs_have_base_name(const struct programs *programs, const char *program) {
    for (int i = 0; i < PROGRAMS_MAX; i++) {
        if (strcmp(base_name(programs->names[i]), base_name(program)) == 0)
            return true;
    }
    return false;
}

void fake_programs_add(struct programs *programs, const char *program) {
    int i = 0;

    if (fake_programs_have(programs, program))
        return;
    while (i < PROGRAMS_MAX && programs->names[i][0] != '\0')
        i++;
    fake_require(i < PROGRAMS_MAX, "too many programs");
    (void)snprintf(programs->names[i], TEXT_MAX, "%s", program);
}

/* ---- injected failures ---- */

/* Looks for the rule of the call: "<call>=<code>", then "!" and "*<count>" if need be. */
static void apply_rules(struct visit *visit) {
    static char rules[512];
    static int used[RULES_MAX];
    const char *now = getenv("FAKE_KEYCHAIN");
    const size_t length = strlen(visit->call);
    const char *rule = now;

    if (now == NULL)
        return;
    if (strcmp(now, rules) != 0) {
        memset(used, 0, sizeof used);
        (void)snprintf(rules, sizeof rules, "%s", now);
    }
    for (int i = 0; i < RULES_MAX && rule != NULL; i++) {
        if (strncmp(rule, visit->call, length) == 0 && rule[length] == '=') {
            char *end;
            const long code = strtol(rule + length + 1, &end, 10);
            const bool works_first = *end == '!';
            end += works_first;
            if (*end != '*' || used[i]++ < atoi(end + 1)) {
                visit->injected = (OSStatus)code;
                visit->works_first = works_first;
                return;
            }
        }
        rule = strchr(rule, ',');
        rule = rule == NULL ? NULL : rule + 1;
    }
}

/* ---- the log ---- */

static void write_log(const struct visit *visit, const char *result) {
    const char *path = getenv("FAKE_KEYCHAIN_LOG");
    FILE *file = path == NULL ? NULL : fopen(path, "ae");

    if (file == NULL)
        return;
    /* One write, so that lines of several processes do not mix. */
    (void)fprintf(file, "%d %s %s %s %s\n", (int)getpid(), visit->call,
                  atomic_load(&dialogs) ? "allowed" : "forbidden",
                  visit->has_asked ? "asked" : "quiet", result);
    (void)fclose(file);
}

/* ---- a call ---- */

/* A process that was killed inside is not inside any more. */
static bool is_inside(int process) {
    return process != 0 && process != getpid() && (kill(process, 0) == 0 || errno == EPERM);
}

static int others_inside(const struct store *store) {
    int others = 0;
    for (int i = 0; i < PROCESSES_MAX; i++)
        others += is_inside(store->processes[i]);
    return others;
}

static void come_in(void) {
    struct store *store = fake_store_open();
    int free = 0;

    store->overlaps += others_inside(store) > 0;
    while (free < PROCESSES_MAX && is_inside(store->processes[free]))
        free++;
    fake_require(free < PROCESSES_MAX, "too many processes");
    store->processes[free] = getpid();
    fake_store_close();
}

static void go_out(void) {
    struct store *store = fake_store_open();
    for (int i = 0; i < PROCESSES_MAX; i++) {
        if (store->processes[i] == getpid())
            store->processes[i] = 0;
    }
    fake_store_close();
}

struct visit fake_visit_begin(const char *call) {
    struct visit visit = {.call = call};

    (void)pthread_once(&fork_handlers, install_fork_handlers);
    /* Apple, "Working with Concurrency": a program has to serialize its calls. */
    fake_require(atomic_fetch_add(&inside, 1) == 0, "two threads use the keychain at once");
    if (fake_store_is_shared())
        come_in();
    if (fake_keychain.before != NULL)
        fake_keychain.before(call);
    enter();
    fake_keychain.last = call;
    fake_keychain.calls++;
    if (fake_keychain.calls == fake_keychain.fail_call) {
        fake_keychain.failed = call;
        visit.injected = fake_keychain.status;
    } else {
        apply_rules(&visit);
    }
    leave();
    return visit;
}

OSStatus fake_visit_end(struct visit *visit, OSStatus status) {
    char result[16];

    if (visit->injected != errSecSuccess && (status == errSecSuccess || !visit->works_first))
        status = visit->injected;
    (void)snprintf(result, sizeof result, "%d", (int)status);
    write_log(visit, result);
    if (fake_store_is_shared())
        go_out();
    (void)atomic_fetch_sub(&inside, 1);
    return status;
}

/* Measured by others (GitGuardian/ggshield#1358): of 5 processes that read at once 3 fail with
 * errSecAuthFailed, of 30 18. */
OSStatus fake_visit_pause(void) {
    int others;

    if (!fake_store_is_shared())
        return errSecSuccess;
    sleep_us(50 + (long)fake_random(200));
    others = others_inside(fake_store_open());
    fake_store_close();
    return others > 0 && fake_random(16) == 0 ? errSecAuthFailed : errSecSuccess;
}

/* ---- the person ---- */

void fake_visit_allow_dialogs(bool allowed) {
    atomic_store(&dialogs, allowed);
}

bool fake_keychain_allows_dialogs(void) {
    return atomic_load(&dialogs);
}

void fake_keychain_person_returns(void) {
    enter();
    returns++;
    (void)pthread_cond_broadcast(&returned);
    leave();
}

static void wait_for_return(void) {
    int before;

    enter();
    before = returns;
    while (returns == before)
        (void)pthread_cond_wait(&returned, &mutex);
    leave();
}

static bool answers(const char *answer) {
    const char *person = getenv("FAKE_PERSON");
    return strcmp(person == NULL ? "allow" : person, answer) == 0;
}

/* Globals.cpp, keychainCredentials() and itemCredentials(): with dialogs forbidden there are no
 * credentials, and securityd answers OPERATION_AUTH_DENIED.  agentquery.cpp, activate(): without a
 * screen NO_USER_INTERACTION. */
OSStatus fake_visit_ask(struct visit *visit, bool may_ask, bool *always) {
    *always = false;
    if (!may_ask)
        return errSecAuthFailed;
    if (answers("none"))
        return errSecInteractionNotAllowed;
    visit->has_asked = true;
    enter();
    fake_keychain.asked++;
    leave();
    if (answers("away")) {
        write_log(visit, "away");
        wait_for_return();
    }
    if (answers("mistaken")) {
        sleep_us(MISTAKEN_MS * 1000L);
        return errSecAuthFailed;
    }
    *always = answers("always");
    return answers("deny") ? errSecUserCanceled : errSecSuccess;
}

/* ---- the words ---- */

CFStringRef SecCopyErrorMessageString(OSStatus status, void *reserved) {
    char words[1024];

    fake_require(reserved == NULL, "an error is asked for in an unexpected way");
    if (fake_keychain.words == NO_WORDS)
        return NULL;
    (void)snprintf(words, sizeof words, "The words for %d.%*s", (int)status,
                   fake_keychain.words == LONG_WORDS ? 600 : 0, "");
    return CFStringCreateWithBytes(NULL, (const UInt8 *)words, (CFIndex)strlen(words),
                                   kCFStringEncodingUTF8, false);
}
