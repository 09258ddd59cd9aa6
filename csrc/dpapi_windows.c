/*
 * The Windows Data Protection API.  Twin: dpapi_none.c.
 *
 * It is called as msal-extensions 1.3.1 calls it: the description is "python_data", and no window
 * opens.  error.code is what GetLastError returned, as the signed number that Python programs know
 * (0x8009000B is -2146893813).  There is no table of codes, because they differ between versions of
 * Windows: each failure only means "cannot encrypt" or "cannot decrypt".
 */
#include "os_windows.h"

#include <dpapi.h>

static const wchar_t DESCRIPTION[] = L"python_data";

static int fail_dpapi(msalex_error *error, DWORD code, const char *call) {
    char words[400];
    msalex__words_of_windows(code, words, sizeof words);
    return msalex__fail(error, MSALEX_OS_ERROR, (int32_t)code, call, words);
}

/* Describes bytes in the form that the API takes; it does not write to them.  False: too many. */
static bool view(const unsigned char *data, size_t size, DATA_BLOB *blob) {
    union {
        const unsigned char *borrowed;
        BYTE *bytes;
    } pointer = {.borrowed = data};

    blob->pbData = pointer.bytes;
    blob->cbData = (DWORD)size;
    return size <= MAXDWORD;
}

/* Copies the bytes that the API allocated, then wipes and frees them. */
static int take(DATA_BLOB *made, msalex_buffer *buffer, msalex_error *error) {
    int status = msalex__buffer_copy(buffer, made->pbData, made->cbData, error);
    msalex__wipe(made->pbData, made->cbData);
    (void)LocalFree(made->pbData);
    return status;
}

int msalex_dpapi_available(msalex_error *error) {
    return msalex__ok(error);
}

int msalex_dpapi_protect(const unsigned char *data, size_t size, const unsigned char *entropy,
                         size_t entropy_size, int scope, msalex_buffer *blob, msalex_error *error) {
    const DWORD flags =
        CRYPTPROTECT_UI_FORBIDDEN |
        (DWORD)(scope == MSALEX_DPAPI_LOCAL_MACHINE ? CRYPTPROTECT_LOCAL_MACHINE : 0);
    DATA_BLOB clear, key, made = {0};

    *blob = (msalex_buffer){0};
    if (!view(data, size, &clear) || !view(entropy, entropy_size, &key))
        return fail_dpapi(error, ERROR_INVALID_PARAMETER, "CryptProtectData");
    if (!CryptProtectData(&clear, DESCRIPTION, entropy_size == 0 ? NULL : &key, NULL, NULL, flags,
                          &made))
        return fail_dpapi(error, GetLastError(), "CryptProtectData");
    return take(&made, blob, error);
}

int msalex_dpapi_unprotect(const unsigned char *blob, size_t size, const unsigned char *entropy,
                           size_t entropy_size, msalex_buffer *data, msalex_error *error) {
    DATA_BLOB sealed, key, made = {0};

    *data = (msalex_buffer){0};
    if (!view(blob, size, &sealed) || !view(entropy, entropy_size, &key))
        return fail_dpapi(error, ERROR_INVALID_PARAMETER, "CryptUnprotectData");
    if (!CryptUnprotectData(&sealed, NULL, entropy_size == 0 ? NULL : &key, NULL, NULL,
                            CRYPTPROTECT_UI_FORBIDDEN, &made))
        return fail_dpapi(error, GetLastError(), "CryptUnprotectData");
    return take(&made, data, error);
}
