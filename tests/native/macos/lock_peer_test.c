/*
 * The files of peers and of other mounts, over a kernel with a script (lock_script.h).
 * Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"
#include "lock_record.h"
#include "lock_script.h"

static void stale_file_that_stays(void) {
    start(wait_script);
    write_peer(dead_pid());
    fake_kernel.failing = "unlinkat";
    fake_kernel.code = EPERM;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 1000, 1000, &error), MSALEX_TIMEOUT);
    CHECK(waits == 4); /* it does not spin */
    end();
}

/* A peer: the pid of its process, the age of its file in seconds. */
struct peer {
    pid_t pid;
    time_t age;
    int status; /* of an attempt; MSALEX_OK: the file was stale and was removed */
    bool remote, without_sysctl;
    time_t since_boot; /* 0: the real one */
};

static void meet(const struct peer *peer) {
    start(wait_script);
    if (peer->pid != 0)
        write_peer(peer->pid);
    else
        write_text(PATH, "");
    make_old(PATH, peer->age);
    fake_kernel.remote = peer->remote;
    if (peer->since_boot != 0)
        fake_kernel.booted = time(NULL) - peer->since_boot;
    if (peer->without_sysctl) {
        fake_kernel.failing = "sysctl";
        fake_kernel.code = EPERM;
        fake_kernel.always = true;
    }
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), peer->status);
    CHECK(names("waiter") == (peer->status == MSALEX_OK));
    end();
}

static void peers(void) {
    const struct peer peers[] = {
        {getpid(), 0, MSALEX_TIMEOUT, false, false, 0},
        {dead_pid(), 0, MSALEX_OK, false, false, 0},
        {getpid(), 9999999, MSALEX_OK, false, false, 0}, /* the pid has a new process */
        {dead_pid(), 0, MSALEX_TIMEOUT, true, false, 0},
        {dead_pid(), 61, MSALEX_OK, true, false, 0},
        {dead_pid(), 0, MSALEX_OK, false, true, 0},
        {getpid(), 0, MSALEX_TIMEOUT, false, true, 0},
        {0, 0, MSALEX_TIMEOUT, false, false, 0},
        {0, 6, MSALEX_OK, false, false, 0},
    };
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        meet(&peers[i]);
    start(wait_script);
    write_peer(dead_pid());
    fake_kernel.trying = act_at_try;
    at_try = somebody_unlinks; /* another process removes the stale file first */
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    end();
}

/* Finding 8 of the lock's review.  After the clock was set, a process may look much younger than
 * the file that it wrote. */
static void clock_that_was_set(void) {
    const time_t DAYS = 10 * 24 * 3600;
    const struct peer peers[] = {
        {getpid(), 70, MSALEX_TIMEOUT, false, false, DAYS},
        {getpid(), 3000, MSALEX_TIMEOUT, false, false, DAYS},
        {getpid(), 7200, MSALEX_OK, false, false, DAYS},
        {getpid(), 1000, MSALEX_TIMEOUT, false, false, 970}, /* nearly as old as this boot */
        {getpid(), 1000, MSALEX_OK, false, false, 900},      /* older */
    };
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        meet(&peers[i]);
}

/* A living peer, which this process is, wrote its file `age` seconds ago. */
static void meet_living(time_t age, struct fake_kernel script) {
    start(wait_script);
    script.wait = wait_script;
    write_peer(getpid());
    make_old(PATH, age);
    fake_kernel = script;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(!names("waiter"));
    end();
}

/* The clock was set back between the start of the peer and its file. */
static void clock_that_was_set_back(void) {
    const int64_t hours = 3600;

    meet_living(0, (struct fake_kernel){.set_back_s = 10 * hours});
    meet_living(50, (struct fake_kernel){.set_back_s = 10 * hours});
    /* The machine has slept since, so the peer was awake for a shorter time than it is old. */
    meet_living(10 * hours, (struct fake_kernel){.slept_ms = 10 * hours * 1000});
    /* Another user's process does not tell how long it was awake. */
    meet_living(0, (struct fake_kernel){.set_back_s = 10 * hours,
                                        .failing = "proc_pid_rusage",
                                        .code = EPERM,
                                        .always = true});
}

/* Finding 7 of the lock's review.  (SMB answers EACCES when the file is locked.) */
static void record_that_cannot_be_read(void) {
    const struct {
        int code, status, tried;
    } failing[] = {
        {EIO, MSALEX_OS_ERROR, MSALEX_OS_ERROR},
        {ETIMEDOUT, MSALEX_OS_ERROR, MSALEX_OS_ERROR},
        {EINTR, MSALEX_INTERRUPTED, MSALEX_TIMEOUT},
        {EACCES, MSALEX_TIMEOUT, MSALEX_TIMEOUT},
    };
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        start(wait_script);
        fake_kernel.failing = "pread";
        fake_kernel.code = failing[i].code;
        fake_kernel.always = true;
        write_peer(dead_pid());
        make_old(PATH, 100);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), failing[i].status);
        CHECK(error.code == failing[i].code || failing[i].status == MSALEX_TIMEOUT);
        CHECK((waits == 0) == (failing[i].code != EACCES) && file_exists(PATH));
        CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), failing[i].tried);
        CHECK(msalex_lock_holder(PATH, &(msalex_buffer){0}, &error) != MSALEX_OK);
        end();
    }
    start(wait_script);
    write_peer(dead_pid());
    fake_kernel.failing = "fstat";
    fake_kernel.code = EIO;
    fake_kernel.after = 3; /* the call that asks for its age */
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK(fake_kernel.failing == NULL && file_exists(PATH));
    end();
}

/* On a network file system a signal may end a try, or the server does not answer. */
static void try_that_fails(void) {
    static const struct {
        int code, status;
    } failing[] = {
        {EINTR, MSALEX_INTERRUPTED}, {ETIMEDOUT, MSALEX_OS_ERROR}, {EIO, MSALEX_OS_ERROR}};
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        start_held(wait_script);
        CHECK_STATUS(msalex_lock_acquire(waiter, 10, 100, &error), MSALEX_TIMEOUT);
        fake_kernel.failing = "flock";
        fake_kernel.code = failing[i].code;
        CHECK_STATUS(msalex_lock_acquire(waiter, 10, 100, &error), failing[i].status);
        CHECK_STATUS(msalex_lock_acquire(waiter, 10, 100, &error), MSALEX_TIMEOUT);
        event = holder_releases;
        CHECK_STATUS(msalex_lock_acquire(waiter, 10, 100, &error), MSALEX_OK);
        end();
    }
}

/* Finding 3 of the lock's review: a FUSE file system may give another file the same number. */
static void nonce_is_remembered(void) {
    const struct msalex__record another = {.pid = 1, .state = MSALEX__HELD, .nonce = 77};
    for (int is_fuse = 0; is_fuse < 2; is_fuse++) {
        int fd;
        start(wait_script);
        fake_kernel.file_system = is_fuse ? "macfuse" : "apfs";
        CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
        CHECK((fd = open(PATH, O_RDWR | O_CLOEXEC)) >= 0);
        write_record(fd, &another); /* the same inode number with the record of another file */
        (void)close(fd);
        CHECK_STATUS(msalex_lock_check(holder, &error), is_fuse ? MSALEX_NOT_FOUND : MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(holder, &error), is_fuse ? MSALEX_NOT_FOUND : MSALEX_OK);
        CHECK(file_exists(PATH) == (is_fuse == 1)); /* a holder removes only its own file */
        end();
    }
}

/* A peer of the same mount may write over our record. */
static void peer_writes_over_it_there(void) {
    start(wait_script);
    fake_kernel.file_system = "macfuse";
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    write_peer(getpid());
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(!file_exists(PATH));
    end();
}

/* Finding 2 of the lock's review: the kernel of another mount, or of another machine, holds it. */
static void other_mounts_are_peers(void) {
    static const char *const systems[] = {"macfuse", "osxfuse", "virtiofs", "9p", "apfs"};
    for (size_t i = 0; i < sizeof systems / sizeof systems[0]; i++) {
        const bool is_local = strcmp(systems[i], "apfs") == 0;
        struct msalex__record record = {.state = MSALEX__HELD, .nonce = 1};
        int fd;

        start(wait_script);
        fake_kernel.file_system = systems[i];
        CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
        CHECK(read_record_at(PATH, &record) && (record.view == 0) == is_local);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        event = holder_releases; /* within one mount the flock counts */
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
        CHECK(waits == 2);
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
        event = NULL;

        CHECK((fd = open(PATH, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) >= 0);
        record.pid = getpid(); /* nobody has its flock, here */
        record.view ^= 1;
        write_record(fd, &record);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        record.view = is_local ? 2 : 0; /* of a program that does not know views */
        write_record(fd, &record);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        record.pid = dead_pid(); /* it may run on another machine, which shares the directory */
        write_record(fd, &record);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error),
                     is_local ? MSALEX_OK : MSALEX_TIMEOUT);
        make_old(PATH, 61);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error),
                     is_local ? MSALEX_INVALID : MSALEX_OK);
        (void)close(fd);
        end();
    }
}

/* The view of a process that cannot see its boot, or 0. */
static uint64_t view_without_a_boot(void) {
    struct msalex__record one = {0}, other = {0};
    uint64_t view = 0;
    pid_t child;
    int gate[2];

    CHECK(pipe2(gate, O_CLOEXEC) == 0);
    (void)fflush(stdout);
    if ((child = fork()) == 0) {
        fake_kernel.file_system = "macfuse";
        fake_kernel.failing = "sysctlbyname";
        fake_kernel.code = EPERM;
        if (msalex_lock_acquire(waiter, 0, 0, &error) == MSALEX_OK && read_record_at(PATH, &one) &&
            msalex_lock_release(waiter, &error) == MSALEX_OK &&
            msalex_lock_acquire(third, 0, 0, &error) == MSALEX_OK && read_record_at(PATH, &other) &&
            msalex_lock_release(third, &error) == MSALEX_OK &&
            one.view == other.view) /* it is one process */
            view = one.view;
        exit(write(gate[1], &view, sizeof view) == (ssize_t)sizeof view ? 0 : 1);
    }
    CHECK(wait_for_child(child) == 0);
    CHECK(read(gate[0], &view, sizeof view) == (ssize_t)sizeof view);
    (void)close(gate[0]);
    (void)close(gate[1]);
    return view;
}

/* This property must be the first one: the library remembers this boot. */
static void boot_that_is_hidden(void) {
    uint64_t one, other;

    start(wait_script);
    one = view_without_a_boot();
    other = view_without_a_boot();
    CHECK(one != 0 && other != 0 && one != other);
    end();
}

static const struct property properties[] = {
    {"Where the boot is hidden, each process has a view of its own", boot_that_is_hidden},
    {"A stale file that cannot be removed is waited for", stale_file_that_stays},
    {"A peer's file is stale when its process is dead, or it is old", peers},
    {"A process is no other one because a clock was set", clock_that_was_set},
    {"A living peer stays one when the clock was set back", clock_that_was_set_back},
    {"A record that cannot be read is an error, and robs nobody", record_that_cannot_be_read},
    {"A try that fails is an error, and a signal is a signal", try_that_fails},
    {"On macFUSE the number of a file proves nothing, its nonce does", nonce_is_remembered},
    {"On macFUSE a peer that writes over our record takes nothing", peer_writes_over_it_there},
    {"A lock of ours by another mount is a peer's", other_mounts_are_peers},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
