/*
 * What the thread of a keychain call does (keychain_macos.c): it carries out the operation of the
 * call, in the default keychain and in its turn.  What fails because of others it tries again.
 */
#include "keychain_macos.h"

#include <string.h>

/* A try that took longer has probably asked a person.  Without one it takes so long only on a
 * machine that is very busy. */
enum { ASKED_MS = 3000 };

/* Milliseconds before the second, third ... try of an operation that failed because of others. */
static const int64_t pauses[] = {10, 20, 50, 100, 200, 400};

/* Dialogs about the item are forbidden meanwhile. */
static int run_quietly(const struct msalex__keychain_job *job) {
    static const char name[] = "SecKeychainSetUserInteractionAllowed";
    int status;

    if (!msalex__keychain_begin(job->call, name))
        return msalex__keychain_fail_left(job, name);
    if ((status = msalex__keychain_forbid_dialogs(job->call)) == MSALEX_OK)
        status = msalex__keychain_operate(job);
    msalex__keychain_allow_dialogs();
    return status;
}

/* In the default keychain.  A locked one is not left to the switch for dialogs: a keychain that
 * this process opened while they were allowed goes on asking for its password (source:
 * dlclient.cpp, kcdatabase.cpp). */
static int run(struct msalex__keychain_job *job) {
    const msalex_keychain_call *call = job->call;
    /* The others need a key of the keychain, so that it has to be unlocked. */
    const bool quietly = !call->interactive && call->operation != MSALEX_KEYCHAIN_LOOK;
    const void *keychains[] = {job->keychain};
    int status;

    if (quietly && job->is_locked)
        return msalex__keychain_told(job, errSecInteractionNotAllowed, "SecKeychainGetStatus");
    if ((job->searched = CFArrayCreate(NULL, keychains, 1, &kCFTypeArrayCallBacks)) == NULL)
        return msalex__keychain_fail_memory(job, "CFArrayCreate");
    if (quietly && call->operation != MSALEX_KEYCHAIN_UNLOCK)
        status = run_quietly(job);
    else
        status = msalex__keychain_operate(job);
    CFRelease(job->searched);
    return status;
}

/* Finds the default keychain, and whether it is locked.  If its file is gone, this is where macOS
 * says so; a search would find nothing there, and to add an item would ask a person to make a
 * keychain (source: KCCursor.cpp, SecKeychainItem.cpp). */
static int run_in_default_keychain(struct msalex__keychain_job *job) {
    SecKeychainStatus state = 0;
    OSStatus code;
    int status;

    if (!msalex__keychain_begin(job->call, "SecKeychainCopyDefault"))
        return msalex__keychain_fail_left(job, "SecKeychainCopyDefault");
    if ((code = SecKeychainCopyDefault(&job->keychain)) != errSecSuccess)
        return msalex__keychain_told(job, code, "SecKeychainCopyDefault");
    if (!msalex__keychain_begin(job->call, "SecKeychainGetStatus")) {
        status = msalex__keychain_fail_left(job, "SecKeychainGetStatus");
    } else if ((code = SecKeychainGetStatus(job->keychain, &state)) != errSecSuccess) {
        status = msalex__keychain_told(job, code, "SecKeychainGetStatus");
    } else {
        job->is_locked = (state & kSecUnlockStateStatus) == 0;
        status = run(job);
    }
    CFRelease(job->keychain);
    return status;
}

/* One try has the turn from its beginning to its end.  Between two tries others have it. */
static int try_once(struct msalex__keychain_job *job, bool *was_long) {
    int64_t begin;
    int status = msalex__keychain_take_turn(job->call);

    if (status != MSALEX_OK)
        return status;
    begin = msalex__now_ms();
    status = run_in_default_keychain(job);
    *was_long = msalex__now_ms() - begin > ASKED_MS;
    msalex__keychain_give_turn();
    return status;
}

static int try_until_done(struct msalex__keychain_job *job) {
    bool was_long = false;
    int status = try_once(job, &was_long);

    for (size_t i = 0; i < sizeof pauses / sizeof pauses[0] && status != MSALEX_OK &&
                       msalex__keychain_is_race(job->call, (int)i + 1, was_long) &&
                       msalex__keychain_pause(job->call, pauses[i]);
         i++)
        status = try_once(job, &was_long);
    return status;
}

/* ---- the job ---- */

static CFStringRef string(const char *text) {
    return CFStringCreateWithBytes(NULL, (const UInt8 *)text, (CFIndex)strlen(text),
                                   kCFStringEncodingUTF8, false);
}

/* The copy is mutable, so that we can wipe it; its capacity is fixed, so that it never moves and
 * leaves another copy behind.  NULL: out of memory. */
static CFMutableDataRef copy_data(const msalex_buffer *buffer) {
    CFMutableDataRef data = CFDataCreateMutable(NULL, (CFIndex)buffer->size);
    if (data != NULL)
        CFDataAppendBytes(data, buffer->data, (CFIndex)buffer->size);
    return data;
}

static void wipe_and_release(CFMutableDataRef data) {
    msalex__wipe(CFDataGetMutableBytePtr(data), (size_t)CFDataGetLength(data));
    CFRelease(data);
}

int msalex__keychain_perform(msalex_keychain_call *call) {
    struct msalex__keychain_job job = {.call = call, .error = &call->error};
    int status;

    job.service = string(call->service);
    job.account = string(call->account);
    job.data = copy_data(&call->data);
    if (job.service == NULL || job.account == NULL)
        status = msalex__fail(job.error, MSALEX_INVALID, errSecParam, "CFStringCreateWithBytes",
                              "the service or the account is not UTF-8, or no memory is left");
    else if (job.data == NULL)
        status = msalex__keychain_fail_memory(&job, "CFDataCreateMutable");
    else
        status = try_until_done(&job);
    if (job.data != NULL)
        wipe_and_release(job.data);
    msalex__keychain_release(job.account);
    msalex__keychain_release(job.service);
    return status;
}
