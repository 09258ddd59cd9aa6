/* Rules about time, access lists and DPAPI: see rules.h. */
#include "rules.h"

#include <dpapi.h>
#include <sddl.h>
#include <string.h>

enum { HIGH_RESOLUTION = 2 }; /* CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, of Windows 10 1803 */

static double ms_since(const LARGE_INTEGER *before) {
    LARGE_INTEGER now, frequency;
    (void)QueryPerformanceCounter(&now);
    (void)QueryPerformanceFrequency(&frequency);
    return 1000.0 * (double)(now.QuadPart - before->QuadPart) / (double)frequency.QuadPart;
}

bool sleep_waits_for_a_tick(void) {
    LARGE_INTEGER before;
    (void)QueryPerformanceCounter(&before);
    for (int i = 0; i < 20; i++)
        Sleep(1);
    return ms_since(&before) > 20 * 5;
}

bool a_timer_is_finer_than_a_tick(void) {
    const DWORD access = SYNCHRONIZE | TIMER_MODIFY_STATE;
    HANDLE timer = CreateWaitableTimerExW(NULL, NULL, HIGH_RESOLUTION, access);
    const LARGE_INTEGER soon = {.QuadPart = -10000}; /* 1 ms */
    LARGE_INTEGER before;
    bool shown = said(timer != NULL);

    (void)QueryPerformanceCounter(&before);
    for (int i = 0; shown && i < 20; i++)
        shown = said(SetWaitableTimer(timer, &soon, 0, NULL, NULL, FALSE)) &&
                WaitForSingleObject(timer, PATIENCE_MS) == WAIT_OBJECT_0;
    shown = shown && ms_since(&before) < 20 * 5;
    close_file(timer);
    return shown;
}

/* The file, made anew with that access list. */
static bool put_with_list(const wchar_t *list) {
    SECURITY_ATTRIBUTES security = {.nLength = sizeof security};
    HANDLE file;

    take_away(FILE_NAME);
    if (!said(ConvertStringSecurityDescriptorToSecurityDescriptorW(
            list, SDDL_REVISION_1, &security.lpSecurityDescriptor, NULL)))
        return false;
    file = CreateFileW(FILE_NAME, GENERIC_WRITE, ALL, &security, CREATE_NEW, 0, NULL);
    (void)said(file != INVALID_HANDLE_VALUE);
    close_file(file);
    (void)LocalFree(security.lpSecurityDescriptor);
    return code == 0;
}

bool a_new_file_has_the_list_it_was_given(void) {
    wchar_t *list = NULL;
    DWORD room[256], size;
    bool shown = put_with_list(L"D:P(A;;FR;;;BG)(A;;FA;;;WD)");

    shown = shown &&
            said(GetFileSecurityW(FILE_NAME, DACL_SECURITY_INFORMATION, room, sizeof room, &size));
    shown = shown && said(ConvertSecurityDescriptorToStringSecurityDescriptorW(
                         room, SDDL_REVISION_1, DACL_SECURITY_INFORMATION, &list, NULL));
    shown = shown && wcscmp(list, L"D:P(A;;FR;;;BG)(A;;FA;;;WD)") == 0;
    (void)LocalFree(list);
    return shown;
}

bool a_list_refuses_writing(void) {
    HANDLE file;
    bool shown = put_with_list(L"D:P(A;;FRSD;;;WD)");

    if (shown) {
        file = open_file(FILE_NAME, GENERIC_WRITE, ALL, OPEN_EXISTING, 0);
        shown = code == ERROR_ACCESS_DENIED;
        close_file(file);
    }
    return shown;
}

bool the_effective_token_needs_no_opening(void) {
    BYTE user[256];
    DWORD size;
    HANDLE token = (HANDLE)(LONG_PTR)-6; /* GetCurrentThreadEffectiveToken() */
    return said(GetTokenInformation(token, TokenUser, user, sizeof user, &size));
}

bool a_changed_secret_is_noticed(void) {
    BYTE clear[] = "secret";
    DATA_BLOB plain = {sizeof clear, clear}, sealed = {0}, opened = {0};
    bool shown =
        said(CryptProtectData(&plain, NULL, NULL, NULL, NULL, CRYPTPROTECT_UI_FORBIDDEN, &sealed));

    for (DWORD i = 0; shown && i < sealed.cbData; i++) {
        sealed.pbData[i] ^= 1;
        shown = !said(CryptUnprotectData(&sealed, NULL, NULL, NULL, NULL, CRYPTPROTECT_UI_FORBIDDEN,
                                         &opened));
        if (!shown)
            (void)LocalFree(opened.pbData);
        sealed.pbData[i] ^= 1;
    }
    (void)LocalFree(sealed.pbData);
    return shown;
}

bool memory_is_sealed(void) {
    BYTE memory[CRYPTPROTECTMEMORY_BLOCK_SIZE] = "a secret";
    return said(CryptProtectMemory(memory, sizeof memory, CRYPTPROTECTMEMORY_SAME_PROCESS)) &&
           memcmp(memory, "a secret", 8) != 0;
}
