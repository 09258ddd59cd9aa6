/* The owner of a file, and the readers of a new one, Windows: see access_windows.h. */
#include "access_windows.h"

#include <aclapi.h>
#include <sddl.h>
#include <stdio.h>
#include <string.h>

/* The service that installs Windows owns the directories of the system. */
static const wchar_t INSTALLER[] =
    L"S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";

/* ---- users ---- */

struct user {
    union {
        TOKEN_USER user;
        BYTE bytes[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
    } token;
};

/* This pseudo handle (Windows 8) is the token of the client while this thread acts for one, else
 * that of the process: GetCurrentThreadEffectiveToken(), which old headers lack. */
static bool find_user(struct user *us) {
    const HANDLE effective = (HANDLE)(LONG_PTR)-6;
    DWORD size;
    return GetTokenInformation(effective, TokenUser, &us->token, sizeof us->token, &size) != 0;
}

static bool is_installer(PSID owner) {
    wchar_t *text = NULL;
    bool same;

    if (!ConvertSidToStringSidW(owner, &text))
        return false;
    same = wcscmp(text, INSTALLER) == 0;
    (void)LocalFree(text);
    return same;
}

static bool is_trusted_owner(PSID owner) {
    struct user us;
    return (find_user(&us) && EqualSid(owner, us.token.user.User.Sid)) ||
           IsWellKnownSid(owner, WinLocalSystemSid) ||
           IsWellKnownSid(owner, WinBuiltinAdministratorsSid) || is_installer(owner);
}

/* Not the name of the account: the system may ask another machine for that, and take its time. */
static void name_owner(PSID owner, char *text) {
    wchar_t *wide = NULL;

    (void)snprintf(text, MSALEX__OWNER_SIZE, "another user");
    if (owner == NULL || !ConvertSidToStringSidW(owner, &wide))
        return;
    msalex__narrow(wide, wcslen(wide), text, MSALEX__OWNER_SIZE);
    (void)LocalFree(wide);
}

bool msalex__is_trusted(HANDLE file, char *owner) {
    PSECURITY_DESCRIPTOR descriptor = NULL;
    PSID sid = NULL;
    bool trusted = false;

    if (GetSecurityInfo(file, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION, &sid, NULL, NULL, NULL,
                        &descriptor) == ERROR_SUCCESS)
        trusted = sid != NULL && is_trusted_owner(sid);
    if (!trusted)
        name_owner(sid, owner);
    (void)LocalFree(descriptor);
    return trusted;
}

/* ---- lists ---- */

/* P: nothing is inherited.  SY: the system.  BA: administrators. */
PSECURITY_DESCRIPTOR msalex__private_list(void) {
    PSECURITY_DESCRIPTOR descriptor = NULL;
    wchar_t text[300], *sid = NULL;
    struct user us;

    if (!find_user(&us) || !ConvertSidToStringSidW(us.token.user.User.Sid, &sid))
        return NULL;
    (void)swprintf(text, 300, L"D:P(A;;FA;;;%ls)(A;;FA;;;SY)(A;;FA;;;BA)", sid);
    (void)ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1, &descriptor,
                                                               NULL);
    (void)LocalFree(sid);
    return descriptor;
}

/* Is each entry of the list inherited, so that a new file in the directory gets the same ones?  To
 * hand them over would make them entries of the file's own, or double them. */
static bool is_inherited(PSECURITY_DESCRIPTOR descriptor) {
    SECURITY_DESCRIPTOR_CONTROL control = 0;
    BOOL present = FALSE, defaulted = FALSE;
    PACL list = NULL;
    DWORD revision;
    void *entry;

    if (!GetSecurityDescriptorControl(descriptor, &control, &revision) ||
        !GetSecurityDescriptorDacl(descriptor, &present, &list, &defaulted))
        return false;
    if ((control & SE_DACL_PROTECTED) != 0 || !present || list == NULL || list->AceCount == 0)
        return false;
    for (DWORD i = 0; i < list->AceCount; i++) {
        if (!GetAce(list, i, &entry) ||
            (((const ACE_HEADER *)entry)->AceFlags & INHERITED_ACE) == 0)
            return false;
    }
    return true;
}

/* The list of a stranger's file is not kept: that user may have made the file, so as to read what
 * we save in it.  Where we may not read the list, rather too few may read the new file. */
bool msalex__list_for(HANDLE old, PSECURITY_DESCRIPTOR *list) {
    char ignored[MSALEX__OWNER_SIZE];

    *list = NULL;
    if (old == INVALID_HANDLE_VALUE || !msalex__is_trusted(old, ignored) ||
        GetSecurityInfo(old, SE_FILE_OBJECT, DACL_SECURITY_INFORMATION, NULL, NULL, NULL, NULL,
                        list) != ERROR_SUCCESS) {
        *list = msalex__private_list();
        return *list != NULL;
    }
    if (is_inherited(*list)) {
        (void)LocalFree(*list);
        *list = NULL;
    }
    return true;
}
