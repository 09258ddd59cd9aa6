/*
 * What one call does with the Secret Service.  libsecret_linux.c runs it in a thread;
 * libsecret_requests_linux.c and libsecret_prompt_linux.c are the single requests.
 *
 * Protocol: https://specifications.freedesktop.org/secret-service/.  An item that exists is changed
 * in place, and not replaced: KeePassXC asks a person before it replaces an item of another program,
 * and KWallet gives the new one another path, while another process may be reading the old one.
 */
#include <string.h>

#include "libsecret_linux.h"

enum {
    TURNS_MAX = 5,   /* how often an item is searched again that was gone when we used it */
    UNLOCK_MS = 2000 /* for KWallet, to say that it need not ask */
};

/* Of what a search has found; `*locked`: see step_function. */
static int fail_locked(msalex_libsecret_call *call, const char *path, char **locked) {
    *locked = glib->g_strdup(path);
    return msalex__fail(&call->error, MSALEX_DENIED, SECRET_LOCKED, "SearchItems",
                        "the keyring is locked, and was not unlocked");
}

static int fail_not_found(msalex_libsecret_call *call) {
    return msalex__fail(&call->error, MSALEX_NOT_FOUND, 0, "SearchItems", "no such item");
}

static int fail_no_default(msalex_libsecret_call *call) {
    return msalex__fail(&call->error, MSALEX_UNAVAILABLE, SECRET_NO_SUCH_OBJECT, "default",
                        "the Secret Service has no default keyring");
}

/* ---- KWallet ---- */

/* How to know KWallet: it owns a name of its own beside the common one.  Some versions can be asked
 * whether a wallet is open, at a path of theirs. */
static const struct {
    const char *name, *path;
} kwallets[] = {
    {"org.kde.kwalletd5", "/modules/kwalletd5"},
    {"org.kde.kwalletd6", "/modules/kwalletd6"},
    {"org.kde.secretservicecompat", NULL}, /* ksecretd of newer KDE 6 */
};
enum { KWALLETS = sizeof kwallets / sizeof kwallets[0] };

/* Which KWallet is the service?  KWALLETS: it is none. */
static size_t which_kwallet(msalex_libsecret_call *call) {
    char *service = msalex__libsecret_owner(call, NULL);
    bool found = false;
    size_t i = 0;

    for (; service != NULL && i < KWALLETS; i++) {
        char *owner = msalex__libsecret_owner(call, kwallets[i].name);
        found = owner != NULL && strcmp(owner, service) == 0;
        glib->g_free(owner);
        if (found)
            break;
    }
    glib->g_free(service);
    return found ? i : KWALLETS;
}

/* KWallet says "locked" of a wallet that was opened at login, until a program asks to unlock it.
 * Then no person is asked.  A version that cannot be asked whether the wallet is open gets a moment
 * to unlock it. */
static int unlock_open_wallet(msalex_libsecret_call *call, const char *path) {
    const size_t kwallet = which_kwallet(call);
    int is_open = 1; /* a gboolean */
    char *label;
    GVariant *reply = NULL;

    if (kwallet == KWALLETS)
        return MSALEX_OK;
    if (kwallets[kwallet].path != NULL &&
        (label = msalex__libsecret_label_of(call, path)) != NULL) {
        reply = msalex__libsecret_ask(call, NULL, kwallets[kwallet].path, "org.kde.KWallet",
                                      "isOpen", glib->g_variant_new("(s)", label), "(b)", NULL);
        glib->g_free(label);
    }
    if (reply != NULL) {
        glib->g_variant_get(reply, "(b)", &is_open);
        glib->g_variant_unref(reply);
    }
    return is_open ? msalex__libsecret_unlock(call, path, UNLOCK_MS) : MSALEX_OK;
}

/* ---- the operations ---- */

/* Programs choose another persistence when connecting fails, so connecting says what a person would
 * have to mend.  Without a desktop the collection has to be there and open, because nobody could be
 * asked for its password.  With one, only KWallet has to have a wallet: 1.3.1 fails there, too. */
static int connect(msalex_libsecret_call *call) {
    GAsyncResult *answer;
    bool locked = false;
    char *path;
    int status;

    msalex__libsecret_ask_for_collection(call, &answer);
    status = msalex__libsecret_find_collection(call, &answer, &path);
    if (status == MSALEX_OK && path == NULL && (call->alone || which_kwallet(call) < KWALLETS))
        status = fail_no_default(call);
    if (status == MSALEX_OK && path != NULL && call->alone) {
        if ((status = msalex__libsecret_look_at_lock(call, path, &locked)) == MSALEX_OK && locked &&
            (status = unlock_open_wallet(call, path)) == MSALEX_OK)
            status = msalex__libsecret_look_at_lock(call, path, &locked);
        if (locked && (status == MSALEX_OK || status == MSALEX_TIMEOUT))
            status = msalex__fail(&call->error, MSALEX_DENIED, SECRET_LOCKED, "Get Locked",
                                  "the keyring is locked, and without a desktop nobody can be"
                                  " asked for its password");
    }
    glib->g_free(path);
    return status;
}

static bool lies_in(const char *item, const char *collection) {
    const size_t size = strlen(collection);

    return strncmp(item, collection, size) == 0 && item[size] == '/';
}

/* A step of an operation begins with a search.  When something is locked it fails with MSALEX_DENIED
 * and its path in `*locked`; perform_step() frees that. */
typedef int step_function(msalex_libsecret_call *call, char **locked);

/* Chooses one of the open items: the one that has exactly our attributes, else the first one, as
 * libsecret's look-up does.  An item with more attributes is another program's. */
static int choose(msalex_libsecret_call *call, char **paths, char **chosen, bool *ours,
                  bool *nameless) {
    int status = MSALEX_OK;

    *ours = false;
    *chosen = paths[0];
    for (; *paths != NULL && !*ours && status == MSALEX_OK; paths++) {
        status = msalex__libsecret_look_at_item(call, *paths, ours, nameless);
        if (*ours)
            *chosen = *paths;
    }
    return status;
}

/* Changes the item that a load would return, if it lies in our collection and has no attributes but
 * ours; otherwise makes one. */
static int save_beside(msalex_libsecret_call *call, const char *collection, char **open_paths,
                       char **locked_paths, char **locked) {
    char *chosen;
    bool ours, nameless;
    int status = choose(call, open_paths, &chosen, &ours, &nameless);

    if (status != MSALEX_OK)
        return status;
    if (ours && lies_in(chosen, collection)) {
        status = msalex__libsecret_set_secret(call, chosen, nameless);
        if (status == MSALEX_DENIED)
            *locked = glib->g_strdup(chosen);
        return status;
    }
    if (chosen == NULL && locked_paths[0] != NULL && lies_in(locked_paths[0], collection))
        return fail_locked(call, locked_paths[0], locked);
    return msalex__libsecret_create_item(call, collection, locked);
}

static int save(msalex_libsecret_call *call, char **locked) {
    char **open_paths, **locked_paths, *collection;
    GAsyncResult *answer;
    int status, searched;

    msalex__libsecret_ask_for_collection(call, &answer); /* it is found while we search */
    searched = msalex__libsecret_search(call, &open_paths, &locked_paths);
    status = msalex__libsecret_find_collection(call, &answer, &collection);
    if (status == MSALEX_OK)
        status = searched;
    if (status == MSALEX_OK && collection == NULL && !call->alone)
        status = msalex__libsecret_create_default(call, &collection);
    if (status == MSALEX_OK && collection == NULL)
        status = fail_no_default(call);
    if (status == MSALEX_OK)
        status = save_beside(call, collection, open_paths, locked_paths, locked);
    glib->g_strfreev(open_paths);
    glib->g_strfreev(locked_paths);
    glib->g_free(collection);
    return status;
}

static int load(msalex_libsecret_call *call, char **locked) {
    char **open_paths, **locked_paths, *chosen;
    bool ours, nameless;
    int status = msalex__libsecret_search(call, &open_paths, &locked_paths);

    if (status != MSALEX_OK)
        return status;
    chosen = open_paths[0];
    if (chosen != NULL && open_paths[1] != NULL)
        status = choose(call, open_paths, &chosen, &ours, &nameless);
    if (status == MSALEX_OK && chosen != NULL)
        status = msalex__libsecret_fetch(call, chosen);
    else if (status == MSALEX_OK && locked_paths[0] != NULL)
        status = fail_locked(call, locked_paths[0], locked);
    else if (status == MSALEX_OK)
        status = fail_not_found(call);
    glib->g_strfreev(open_paths);
    glib->g_strfreev(locked_paths);
    return status;
}

/* Deletes all items that are open, before it says that others are locked. */
static int delete(msalex_libsecret_call *call, char **locked) {
    char **open_paths, **locked_paths;
    int status = msalex__libsecret_search(call, &open_paths, &locked_paths);

    if (status != MSALEX_OK)
        return status;
    for (char **path = open_paths; *path != NULL && status == MSALEX_OK; path++) {
        status = msalex__libsecret_delete_item(call, *path);
        call->deleted = call->deleted || status == MSALEX_OK;
    }
    if (status == MSALEX_OK && locked_paths[0] != NULL)
        status = fail_locked(call, locked_paths[0], locked);
    else if (status == MSALEX_OK && !call->deleted)
        status = fail_not_found(call);
    glib->g_strfreev(open_paths);
    glib->g_strfreev(locked_paths);
    return status;
}

/* Goes round when the item is gone that the search has found, because another process replaced it
 * meanwhile; and, once, after what is locked was unlocked. */
static int perform_step(msalex_libsecret_call *call, step_function *step) {
    bool asked = false;

    for (int turn = 1;; turn++) {
        char *locked = NULL;
        int status = step(call, &locked);
        bool searched_anew = status != MSALEX_OK && call->gone && turn < TURNS_MAX;

        if (locked != NULL && !asked) {
            asked = true;
            status = msalex__libsecret_unlock(call, locked, -1);
            searched_anew = status == MSALEX_OK;
        }
        glib->g_free(locked);
        if (!searched_anew)
            return status;
    }
}

static int attempt(msalex_libsecret_call *call) {
    int status = msalex__libsecret_reach(call);

    if (status == MSALEX_OK) {
        if (call->operation == MSALEX_LIBSECRET_SAVE)
            status = perform_step(call, save);
        else if (call->operation == MSALEX_LIBSECRET_LOAD)
            status = perform_step(call, load);
        else if (call->operation == MSALEX_LIBSECRET_DELETE)
            status = perform_step(call, delete);
        else
            status = connect(call);
    }
    msalex__libsecret_leave(call, status != MSALEX_OK && call->again);
    return status;
}

int msalex__libsecret_perform(msalex_libsecret_call *call) {
    int status;

    msalex__libsecret_begin(call);
    status = attempt(call);
    if (status != MSALEX_OK && call->again) /* once; the deadline goes on counting */
        status = attempt(call);
    msalex__libsecret_end(call);
    return status == MSALEX_OK ? msalex__ok(&call->error) : status;
}
