/*
 * The unchanged keychain_*macos.c over the fake keychain, among threads, processes and persons that
 * do not answer.  Run by tests/macos/test_over_fakes.py.  With the argument "threads" only what
 * forks no process is run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fake_corefoundation.h"
#include "fake_kernel.h"
#include "fake_keychain.h"

enum {
    LONG_MS = 60000,
    SHORT_MS = 150,
    FLOCK_MS = 3000, /* as in keychain_turn_macos.c */
    THREADS = 8,
    ROUNDS = 40,
    LOADERS = 30,
    LOADS = 12
};

static const char SERVICE[] = "msal-extensions", ACCOUNT[] = "account",
                  LOCK[] = "caches/"
                           "msal-extensions.keychain.lock";

/* ---- calls ---- */

static msalex_keychain_call *started(int operation, int interactive, const char *data,
                                     int64_t timeout_ms) {
    const msalex_keychain_item item = {SERVICE, ACCOUNT, interactive};
    msalex_keychain_call *call;
    CHECK_STATUS(msalex_keychain_start(operation, &item, (const unsigned char *)data, strlen(data),
                                       timeout_ms, &call, &error),
                 MSALEX_OK);
    return call;
}

/* Waits for the end, in slices. */
static int ended(msalex_keychain_call *call, msalex_buffer *secret) {
    int status;
    do
        status = msalex_keychain_wait(call, 20, secret, &error);
    while (status == MSALEX_TIMEOUT && error.code == 0);
    return status;
}

static int act(int operation, int interactive, const char *data, int64_t timeout_ms) {
    msalex_keychain_call *call = started(operation, interactive, data, timeout_ms);
    msalex_buffer secret;
    const int status = ended(call, &secret);

    msalex_buffer_free(&secret);
    msalex_keychain_free(call);
    return status;
}

static int load(int64_t timeout_ms) {
    return act(MSALEX_KEYCHAIN_LOAD, 1, "", timeout_ms);
}

static int save(const char *data) {
    return act(MSALEX_KEYCHAIN_SAVE, 1, data, LONG_MS);
}

static bool has(const char *data) {
    return fake_keychain_has(SERVICE, ACCOUNT, SERVICE, data, strlen(data));
}

/* Did it end because its time was over, while it waited for that? */
static bool is_late(int status, const char *what) {
    return status == MSALEX_TIMEOUT && error.code == ETIMEDOUT && strcmp(error.call, what) == 0 &&
           error.message[0] != '\0';
}

/* ---- a stage ---- */

static int count_threads(void) {
    return count_entries("/proc/self/task");
}

/* Waits until something holds; false after 20 s. */
static bool until(bool (*holds)(void)) {
    for (int64_t end = now_ms() + 20000; !holds();) {
        if (now_ms() > end)
            return false;
        sleep_ms(1);
    }
    return true;
}

static int threads_before; /* those of a sanitizer, too */

static bool is_alone(void) {
    return count_threads() <= threads_before;
}

/* Then what they wrote is visible here: at their end they release objects. */
static bool are_threads_gone(void) {
    return is_alone() && fake_objects() == 0;
}

static int64_t lines_with(const char *file, const char *text) {
    char line[256];
    int64_t count = 0;
    FILE *log = fopen(file, "re");

    while (log != NULL && fgets(line, sizeof line, log) != NULL)
        count += strstr(line, text) != NULL;
    if (log != NULL)
        (void)fclose(log);
    return count;
}

static bool is_person_asked(void) {
    return lines_with("log", " away\n") > 0;
}

/* Each property: the keychains in a directory, with an item, and a directory for caches. */
static void set_up(void) {
    char here[4096], path[sizeof here + 32];

    if (getcwd(here, sizeof here) == NULL || mkdir("keychains", 0700) != 0 ||
        mkdir("caches", 0700) != 0)
        abort();
    (void)snprintf(path, sizeof path, "%s/keychains", here);
    (void)setenv("FAKE_KEYCHAIN_DIRECTORY", path, 1);
    (void)snprintf(path, sizeof path, "%s/caches", here);
    (void)setenv("FAKE_CACHES", path, 1);
    (void)snprintf(path, sizeof path, "%s/log", here);
    (void)setenv("FAKE_KEYCHAIN_LOG", path, 1);
    (void)setenv("FAKE_PERSON", "allow", 1);
    (void)unsetenv("FAKE_PROGRAM");
    fake_keychain = (struct fake_keychain){0};
    fake_kernel = (struct fake_kernel){0};
    fake_keychain_clear();
    fake_keychain_put(SERVICE, ACCOUNT, "saved", 5);
    threads_before = count_threads();
}

static void tear_down(void) {
    CHECK(until(are_threads_gone));
}

/* Starts a load that asks a person, and the person is away.  The call has the turn. */
static msalex_keychain_call *ask_the_absent(void) {
    msalex_keychain_call *call;

    (void)setenv("FAKE_PROGRAM", "another", 1);
    (void)setenv("FAKE_PERSON", "away", 1);
    call = started(MSALEX_KEYCHAIN_LOAD, 1, "", LONG_MS);
    CHECK(until(is_person_asked));
    return call;
}

static void let_the_person_return(void) {
    (void)setenv("FAKE_PERSON", "allow", 1);
    fake_keychain_person_returns();
}

/* ---- threads ---- */

static void *use(void *number) {
    const bool saves = (uintptr_t)number == 0;
    for (int round = 0; round < ROUNDS; round++)
        CHECK_STATUS(saves ? save("saved") : load(LONG_MS), MSALEX_OK);
    return NULL;
}

/* The fake ends the program when two threads are inside it. */
static void serves_threads_one_at_a_time(void) {
    pthread_t threads[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, use, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    CHECK(has("saved") && fake_keychain_overlaps() == 0);
}

static void leaves_when_its_time_is_over(void) {
    msalex_keychain_call *call = ask_the_absent(), *late;
    msalex_buffer secret;
    const int64_t begin = now_ms();

    CHECK(is_late(load(SHORT_MS), "turn"));
    CHECK(now_ms() - begin >= SHORT_MS && now_ms() - begin < LONG_MS / 2);
    msalex_keychain_free(call);

    /* A call that asks the person itself. */
    let_the_person_return();
    CHECK(until(are_threads_gone));
    (void)setenv("FAKE_PERSON", "away", 1);
    late = started(MSALEX_KEYCHAIN_LOAD, 1, "", SHORT_MS);
    CHECK(is_late(ended(late, &secret), "SecItemCopyMatching"));
    CHECK(secret.data == NULL);
    CHECK(is_late(ended(late, &secret), "SecItemCopyMatching")); /* and so it stays */
    CHECK(count_threads() == threads_before + 1);                /* is all that is left */
    let_the_person_return();
    CHECK(until(are_threads_gone));
    CHECK(is_late(ended(late, &secret), "SecItemCopyMatching") && secret.data == NULL);
    msalex_keychain_free(late);
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
}

static void gives_signals_a_chance_in_each_slice(void) {
    msalex_keychain_call *call = ask_the_absent();
    msalex_buffer secret;

    for (int slice = 0; slice < 5; slice++) {
        CHECK_STATUS(msalex_keychain_wait(call, 10, &secret, &error), MSALEX_TIMEOUT);
        CHECK(error.code == 0);
    }
    let_the_person_return();
    CHECK_STATUS(ended(call, &secret), MSALEX_OK);
    CHECK(secret.size == 5 && memcmp(secret.data, "saved", 5) == 0);
    msalex_buffer_free(&secret);
    CHECK_STATUS(ended(call, &secret), MSALEX_OK); /* the secret was given away before */
    CHECK(secret.size == 0);
    msalex_keychain_free(call);
}

/* The saves wait for their turn, or for a person, when their callers leave. */
static void saves_nothing_after_its_caller_has_left(void) {
    msalex_keychain_call *call = ask_the_absent();
    msalex_keychain_call *left = started(MSALEX_KEYCHAIN_SAVE, 1, "too late", LONG_MS);

    CHECK(is_late(act(MSALEX_KEYCHAIN_SAVE, 1, "too late", SHORT_MS), "turn"));
    CHECK(is_late(act(MSALEX_KEYCHAIN_DELETE, 1, "", 0), "turn"));
    msalex_keychain_free(left);
    let_the_person_return();
    msalex_keychain_free(call);
    CHECK(until(are_threads_gone));
    CHECK(has("saved") && lines_with("log", " SecItemUpdate ") == 0);
    CHECK_STATUS(save("in time"), MSALEX_OK);
    CHECK(has("in time"));
}

static _Atomic(msalex_keychain_call *) leaving; /* its caller leaves at its n-th function */
static int leave_at;

static void leave_before(const char *call) {
    (void)call;
    if (--leave_at == 0) {
        while (atomic_load(&leaving) == NULL)
            sleep_ms(1);
        msalex_keychain_free(atomic_load(&leaving));
    }
}

/* Leaves during the n-th function.  False: it called fewer. */
static bool leave_at_function(int number, int operation, int interactive) {
    /* The way of a deletion is longest when there is an item, that of a save when there is none. */
    const char *account = operation == MSALEX_KEYCHAIN_SAVE ? "another account" : ACCOUNT;
    const msalex_keychain_item item = {SERVICE, account, interactive};
    msalex_keychain_call *call;

    fake_keychain_clear();
    (void)setenv("FAKE_PROGRAM", "maker", 1);
    fake_keychain_put(SERVICE, ACCOUNT, "saved", 5);
    (void)setenv("FAKE_PROGRAM", "another", 1);
    fake_keychain = (struct fake_keychain){.before = leave_before};
    if (operation == MSALEX_KEYCHAIN_UNLOCK)
        fake_keychain_lock("login");
    leave_at = number;
    atomic_store(&leaving, NULL);
    CHECK_STATUS(msalex_keychain_start(operation, &item, NULL, 0, LONG_MS, &call, &error),
                 MSALEX_OK);
    atomic_store(&leaving, call);
    CHECK(until(are_threads_gone));
    if (leave_at > 0) {
        msalex_keychain_free(call);
        return false;
    }
    /* The switch for dialogs is put back, perhaps after it was set. */
    CHECK(fake_keychain.calls <= number + (interactive ? 0 : 2));
    CHECK(fake_keychain_allows_dialogs());
    return true;
}

static void leave_before_flock(int fd) {
    (void)fd;
    leave_before("flock");
}

static void begins_nothing_after_its_caller_has_left(void) {
    int left = 0;

    leave_at = 1;
    fake_kernel.trying = leave_before_flock;
    atomic_store(&leaving, started(MSALEX_KEYCHAIN_LOAD, 1, "", LONG_MS));
    CHECK(until(are_threads_gone));
    CHECK(fake_keychain.calls == 0);
    fake_kernel.trying = NULL;
    for (int operation = MSALEX_KEYCHAIN_UNLOCK; operation <= MSALEX_KEYCHAIN_DELETE; operation++) {
        for (int interactive = 0; interactive <= 1; interactive++) {
            for (int number = 1; number <= 7; number++)
                left += leave_at_function(number, operation, interactive);
        }
    }
    CHECK(left >= 40);
}

/* ---- processes ---- */

/* In a program that measures coverage: writes it down. */
void __gcov_dump(void) __attribute__((weak));

static void end_child(int status) {
    (void)until(is_alone); /* valgrind takes what they still have for leaks */
    if (__gcov_dump != NULL)
        __gcov_dump();
    _exit(status);
}

/* Runs it in a process of its own. */
static int forked(int (*run)(void)) {
    int child;

    (void)fflush(stdout); /* the child must not print it, too */
    child = fork();
    if (child == 0)
        end_child(run());
    return child;
}

static int stop_pipe[2];

/* Holds the lock file of the turn until the pipe is closed. */
static int hold_the_lock(void) {
    char byte;
    const int fd = open(LOCK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    (void)close(stop_pipe[1]);
    if (fd < 0 || flock(fd, LOCK_EX) != 0)
        return 1;
    write_text("held", "");
    (void)read(stop_pipe[0], &byte, 1);
    return 0;
}

static bool is_held(void) {
    return file_exists("held");
}

static int start_holder(void) {
    int holder;

    CHECK(pipe2(stop_pipe, O_CLOEXEC) == 0);
    holder = forked(hold_the_lock);
    (void)close(stop_pipe[0]);
    CHECK(until(is_held));
    return holder;
}

static void end_holder(int holder) {
    (void)close(stop_pipe[1]);
    CHECK(wait_for_child(holder) == 0);
}

static void keeps_a_lock_file(void) {
    struct stat first, second;

    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    CHECK(stat(LOCK, &first) == 0 && S_ISREG(first.st_mode) && first.st_size == 0);
    CHECK(mode_of(LOCK) == 0600);
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    msalex_keychain_free(NULL);
    CHECK(stat(LOCK, &second) == 0 && second.st_ino == first.st_ino);
}

static void waits_for_another_process_for_three_seconds_at_most(void) {
    const int holder = start_holder();
    int64_t begin = now_ms();

    CHECK(is_late(load(SHORT_MS), "flock"));
    CHECK(now_ms() - begin >= SHORT_MS);
    begin = now_ms();
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    CHECK(now_ms() - begin >= FLOCK_MS && now_ms() - begin < LONG_MS / 2);
    begin = now_ms();
    for (int i = 0; i < 4; i++)
        CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    CHECK(now_ms() - begin < 3 * FLOCK_MS); /* it did not wait for the same holder again */
    end_holder(holder);
    CHECK_STATUS(load(SHORT_MS), MSALEX_OK);
}

static void leaves_while_it_waits_for_another_process(void) {
    const int holder = start_holder();
    msalex_keychain_call *call = started(MSALEX_KEYCHAIN_SAVE, 1, "too late", LONG_MS);

    sleep_ms(SHORT_MS);
    msalex_keychain_free(call);
    CHECK(until(are_threads_gone));
    end_holder(holder);
    CHECK(has("saved"));
}

/* What else may have the name of the lock file, or be missing. */
static void goes_on_without_a_lock_file(void) {
    (void)setenv("FAKE_CACHES", "", 1);
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    (void)setenv("FAKE_CACHES", "/nowhere", 1);
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    (void)setenv("FAKE_CACHES", "caches", 1);
    CHECK(mkfifo(LOCK, 0600) == 0);
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    CHECK(unlink(LOCK) == 0 && symlink("elsewhere", LOCK) == 0);
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    CHECK(!file_exists("caches/elsewhere"));
    CHECK(unlink(LOCK) == 0);
    fake_kernel.failing = "fstat";
    fake_kernel.code = EIO;
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    fake_kernel.failing = "flock";
    fake_kernel.code = ENOTSUP;
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
}

/* A person that one process asks delays each call of another process by three seconds. */
static void goes_on_beside_a_process_that_asks_a_person(void) {
    msalex_keychain_call *call;
    int child;

    (void)setenv("FAKE_PROGRAM", "another", 1);
    (void)setenv("FAKE_PERSON", "away", 1);
    if ((child = fork()) == 0) {
        msalex_keychain_call *mine = started(MSALEX_KEYCHAIN_LOAD, 1, "", LONG_MS);
        msalex_buffer secret;
        end_child(ended(mine, &secret) == MSALEX_OK ? 0 : 1);
    }
    CHECK(until(is_person_asked));
    (void)unsetenv("FAKE_PROGRAM");
    call = started(MSALEX_KEYCHAIN_LOAD, 1, "", LONG_MS);
    {
        msalex_buffer secret;
        CHECK_STATUS(ended(call, &secret), MSALEX_OK);
        msalex_buffer_free(&secret);
    }
    msalex_keychain_free(call);
    CHECK(fake_keychain_overlaps() > 0);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    CHECK_STATUS(load(SHORT_MS), MSALEX_OK); /* the lock of the dead one is free at once */
}

/* In the child: the parent's call fails and can be freed; the parent keeps its lock; the child's
 * own calls work. */
static msalex_keychain_call *of_parent;

/* Has this process a descriptor of the lock file? */
static bool has_lock_file_open(void) {
    struct stat file, opened;

    for (int fd = 0; stat(LOCK, &file) == 0 && fd < 256; fd++) {
        if (fstat(fd, &opened) == 0 && opened.st_ino == file.st_ino)
            return true;
    }
    return false;
}

static int use_in_child(void) {
    msalex_buffer secret;
    const int status = msalex_keychain_wait(of_parent, 10, &secret, &error);

    if (status != MSALEX_UNAVAILABLE || strcmp(error.call, "fork") != 0)
        return 1;
    msalex_keychain_free(of_parent);
    if (has_lock_file_open())
        return 4;
    (void)unsetenv("FAKE_PROGRAM");
    if (!is_late(load(SHORT_MS), "flock"))
        return 2;
    if (load(LONG_MS) != MSALEX_OK)
        return 3;
    return 0;
}

static void works_in_a_child_of_a_process_with_a_call(void) {
    msalex_buffer secret;

    of_parent = ask_the_absent();
    CHECK(has_lock_file_open());
    CHECK_STATUS(wait_for_child(forked(use_in_child)), 0);
    let_the_person_return();
    CHECK_STATUS(ended(of_parent, &secret), MSALEX_OK);
    CHECK(secret.size == 5);
    msalex_buffer_free(&secret);
    msalex_keychain_free(of_parent);
}

static int sharing_child;

/* A child that has just been forked off, and has not yet called exec, shares the open file.  The
 * library does not know of this one. */
static void fork_without_handlers(const char *call) {
    if (strcmp(call, "SecItemCopyMatching") == 0 && (sharing_child = (int)syscall(SYS_fork)) == 0) {
        (void)pause();
        _exit(0);
    }
}

static void unlocks_a_file_that_a_child_shares(void) {
    int fd;

    fake_keychain.before = fork_without_handlers;
    CHECK_STATUS(load(LONG_MS), MSALEX_OK);
    CHECK((fd = open(LOCK, O_RDWR | O_CLOEXEC)) >= 0);
    CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0);
    (void)close(fd);
    (void)kill(sharing_child, SIGKILL);
    (void)waitpid(sharing_child, NULL, 0);
}

static atomic_bool is_inside, may_go_on;

static void stay_inside(const char *call) {
    if (strcmp(call, "SecItemCopyMatching") == 0) {
        atomic_store(&is_inside, true);
        while (!atomic_load(&may_go_on))
            sleep_ms(1);
    }
}

static bool is_it_inside(void) {
    return atomic_load(&is_inside);
}

/* The first call of the child has to ask a person. */
static int ask_in_child(void) {
    fake_keychain.before = NULL;
    if (fake_keychain_allows_dialogs())
        return 1;
    (void)setenv("FAKE_PROGRAM", "another", 1);
    if (load(LONG_MS) != MSALEX_OK || fake_keychain.asked == 0)
        return 2;
    return fake_keychain_allows_dialogs() ? 0 : 3;
}

static void allows_dialogs_in_a_child_of_a_process_that_forbids_them(void) {
    msalex_keychain_call *call;
    msalex_buffer secret;

    fake_keychain.before = stay_inside;
    atomic_store(&is_inside, false);
    atomic_store(&may_go_on, false);
    call = started(MSALEX_KEYCHAIN_LOAD, 0, "", LONG_MS);
    CHECK(until(is_it_inside));
    CHECK_STATUS(wait_for_child(forked(ask_in_child)), 0);
    atomic_store(&may_go_on, true);
    CHECK_STATUS(ended(call, &secret), MSALEX_OK);
    msalex_buffer_free(&secret);
    msalex_keychain_free(call);
    CHECK(fake_keychain_allows_dialogs());
}

/* ---- many processes ---- */

static int load_often(void) {
    int failed = 0;
    for (int i = 0; i < LOADS; i++)
        failed += load(LONG_MS) != MSALEX_OK;
    return failed;
}

/* Saves until the file "stop" is there: how many saves failed. */
static int save_on(void) {
    int failed = 0;
    while (!file_exists("stop"))
        failed += save("saved") != MSALEX_OK;
    return failed;
}

/* How many loads and saves failed. */
static int load_beside_a_save(void) {
    int children[LOADERS], failed = 0;
    const int saving = forked(save_on);

    for (int i = 0; i < LOADERS; i++)
        children[i] = forked(load_often);
    for (int i = 0; i < LOADERS; i++) {
        int status = 0;
        (void)waitpid(children[i], &status, 0);
        failed += WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
    }
    write_text("stop", "");
    return failed + wait_for_child(saving);
}

/* Calls of macOS that failed. */
static int64_t failed_calls(void) {
    return lines_with("log", " Sec") - lines_with("log", " 0\n");
}

/* On a machine that is very busy, a call waits its three seconds in vain now and then, and goes on
 * without the turn. */
static void many_processes_meet_no_failure(void) {
    const int failed = load_beside_a_save(), overlaps = fake_keychain_overlaps();
    const int64_t calls = failed_calls();
    int without;

    printf("    %d processes of %d loads beside saves: %d failed, %d calls of macOS failed,"
           " %d overlaps\n",
           LOADERS, LOADS, failed, (int)calls, overlaps);
    CHECK(overlaps > 0 || (failed == 0 && calls == 0));

    CHECK(unlink("stop") == 0);
    (void)setenv("FAKE_CACHES", "", 1);
    without = load_beside_a_save();
    printf("    the same without the turn: %d failed, %d calls of macOS failed, %d overlaps\n",
           without, (int)(failed_calls() - calls), fake_keychain_overlaps() - overlaps);
    CHECK(failed_calls() > 2 * calls && fake_keychain_overlaps() > 4 * overlaps);
}

static const struct property of_threads[] = {
    {"Threads use the keychain one at a time", serves_threads_one_at_a_time},
    {"A call ends in time when another one, or itself, waits for a person",
     leaves_when_its_time_is_over},
    {"A call that waits for a person comes back in each slice",
     gives_signals_a_chance_in_each_slice},
    {"Nothing is saved after the caller has left", saves_nothing_after_its_caller_has_left},
    {"No function of macOS is called after the caller has left",
     begins_nothing_after_its_caller_has_left},
    {"What is no lock file is not waited for", goes_on_without_a_lock_file},
};

static const struct property of_processes[] = {
    {"The lock file is private, empty, and stays", keeps_a_lock_file},
    {"A process waits for another one for three seconds at most, and once only",
     waits_for_another_process_for_three_seconds_at_most},
    {"A call that waits for another process can be left",
     leaves_while_it_waits_for_another_process},
    {"A process goes on beside another one that asks a person",
     goes_on_beside_a_process_that_asks_a_person},
    {"A forked child fails with its parent's call, and works with its own",
     works_in_a_child_of_a_process_with_a_call},
    {"The lock is free after a call although a child shares the open file",
     unlocks_a_file_that_a_child_shares},
    {"A child asks a person although its parent had forbidden that when it forked",
     allows_dialogs_in_a_child_of_a_process_that_forbids_them},
    {"Thirty loading processes beside a saving one meet no failure, and without the turn many",
     many_processes_meet_no_failure},
};

static void *nothing(void *argument) {
    return argument;
}

int main(int argc, char **argv) {
    pthread_t first; /* a sanitizer starts a thread of its own beside the first one */

    if (pthread_create(&first, NULL, nothing, NULL) == 0)
        (void)pthread_join(first, NULL);
    around_each_property(set_up, tear_down);
    run_properties(of_threads, COUNT(of_threads));
    if (argc < 2 || strcmp(argv[1], "threads") != 0)
        run_properties(of_processes, COUNT(of_processes));
    return end_of_properties();
}
