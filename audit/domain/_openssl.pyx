# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Digests and the cipher of an entry, called in OpenSSL's libcrypto without an object of the interpreter between.

The compiled twins of `links.Links` and of what `commitment`, `merkle` and `box` ask of hashlib and `cryptography`: the same
algorithms of the same library, a tenth of the way to them. The library is the one this Python's hashlib is linked to;
where it is another, importing this module fails and the Python twins serve.

Everything here is done with the interpreter's lock held and calls nothing of the interpreter meanwhile, so contexts
may be shared between threads.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.string cimport memset

cdef extern from "dlfcn.h":
    void *dlopen(const char *name, int flags)
    void *dlsym(void *library, const char *name)
    int RTLD_NOW

cdef extern from *:
    """
    /* OSSL_PARAM of <openssl/core.h>: a part of the stable interface, whose header need not be installed. */
    typedef struct {
        const char *key;
        unsigned int data_type;
        void *data;
        size_t data_size;
        size_t return_size;
    } hoopweb_param;
    #define HOOPWEB_UNSIGNED_INTEGER 2
    #define HOOPWEB_OCTET_STRING 5
    """
    ctypedef struct hoopweb_param:
        const char *key
        unsigned int data_type
        void *data
        size_t data_size
        size_t return_size
    enum:
        HOOPWEB_UNSIGNED_INTEGER
        HOOPWEB_OCTET_STRING

cdef enum:
    BLOCK = 64  # bytes SHA-256 takes at once (FIPS 180-4)
    DIGEST = 32
    LINK = 16
    KEY = 32
    NONCE = 12
    TAG = 16
    GET_TAG = 0x10  # EVP_CTRL_AEAD_GET_TAG

ctypedef void *(*_Fetch)(void *, const char *, const char *) noexcept nogil
ctypedef void *(*_New)() noexcept nogil
ctypedef void *(*_NewOf)(void *) noexcept nogil
ctypedef void (*_Free)(void *) noexcept nogil
ctypedef int (*_DigestInit)(void *, void *, void *) noexcept nogil
ctypedef int (*_DigestUpdate)(void *, const void *, size_t) noexcept nogil
ctypedef int (*_DigestFinal)(void *, unsigned char *, unsigned int *) noexcept nogil
ctypedef int (*_MacInit)(void *, const unsigned char *, size_t, const hoopweb_param *) noexcept nogil
ctypedef int (*_MacUpdate)(void *, const unsigned char *, size_t) noexcept nogil
ctypedef int (*_MacFinal)(void *, unsigned char *, size_t *, size_t) noexcept nogil
ctypedef int (*_CipherInit)(void *, void *, const unsigned char *, const unsigned char *, void *) noexcept nogil
ctypedef int (*_CipherUpdate)(void *, unsigned char *, int *, const unsigned char *, int) noexcept nogil
ctypedef int (*_CipherFinal)(void *, unsigned char *, int *) noexcept nogil
ctypedef int (*_CipherControl)(void *, int, int, void *) noexcept nogil

cdef void *_library = dlopen(b"libcrypto.so.3", RTLD_NOW)
if _library is NULL:
    raise ImportError("there is no libcrypto.so.3")


cdef void *_symbol(const char *name) except NULL:
    cdef void *found = dlsym(_library, name)
    if found is NULL:
        raise ImportError(f"libcrypto.so.3 has no {name.decode()}")
    return found


cdef _DigestInit _digest_init = <_DigestInit>_symbol(b"EVP_DigestInit_ex2")
cdef _DigestUpdate _digest_update = <_DigestUpdate>_symbol(b"EVP_DigestUpdate")
cdef _DigestFinal _digest_final = <_DigestFinal>_symbol(b"EVP_DigestFinal_ex")
cdef _MacInit _mac_init = <_MacInit>_symbol(b"EVP_MAC_init")
cdef _MacUpdate _mac_update = <_MacUpdate>_symbol(b"EVP_MAC_update")
cdef _MacFinal _mac_final = <_MacFinal>_symbol(b"EVP_MAC_final")
cdef _NewOf _new_mac = <_NewOf>_symbol(b"EVP_MAC_CTX_new")
cdef _Free _free_mac = <_Free>_symbol(b"EVP_MAC_CTX_free")
cdef _New _new_cipher = <_New>_symbol(b"EVP_CIPHER_CTX_new")
cdef _Free _free_cipher = <_Free>_symbol(b"EVP_CIPHER_CTX_free")
cdef _CipherInit _cipher_init = <_CipherInit>_symbol(b"EVP_EncryptInit_ex2")
cdef _CipherUpdate _cipher_update = <_CipherUpdate>_symbol(b"EVP_EncryptUpdate")
cdef _CipherFinal _cipher_final = <_CipherFinal>_symbol(b"EVP_EncryptFinal_ex")
cdef _CipherControl _cipher_control = <_CipherControl>_symbol(b"EVP_CIPHER_CTX_ctrl")


cdef void *_fetched(const char *fetch, const char *name) except NULL:
    cdef void *found = (<_Fetch>_symbol(fetch))(NULL, name, NULL)
    if found is NULL:
        raise ImportError(f"libcrypto.so.3 does not offer {name.decode()}")
    return found


# Fetched once, for as long as the process lives.
cdef void *_sha256 = _fetched(b"EVP_MD_fetch", b"SHA256")
cdef void *_aes_gcm = _fetched(b"EVP_CIPHER_fetch", b"AES-256-GCM")
cdef void *_blake2b = _fetched(b"EVP_MAC_fetch", b"BLAKE2BMAC")
cdef void *_digesting = (<_New>_symbol(b"EVP_MD_CTX_new"))()
if _digesting is NULL:
    raise ImportError("libcrypto.so.3 gave no context")


class CryptoFailed(RuntimeError):
    """The library refused: nothing was sealed, and nothing may be recorded with what it left."""


cdef int hmac_sha256(
    const unsigned char *key, Py_ssize_t key_size, const unsigned char *data, Py_ssize_t size, unsigned char *out
) except -1:
    """HMAC-SHA-256 (RFC 2104) under a key of at most 64 bytes; 32 bytes to `out`."""
    cdef unsigned char inner[DIGEST]
    if key_size > BLOCK:
        raise ValueError(f"a salt of {key_size} bytes, expected no more than {BLOCK}")
    _half(key, key_size, 0x36, data, size, inner)
    return _half(key, key_size, 0x5C, inner, DIGEST, out)


cdef int _half(
    const unsigned char *key,
    Py_ssize_t key_size,
    unsigned char pad,
    const unsigned char *data,
    Py_ssize_t size,
    unsigned char *out,
) except -1:
    cdef unsigned char block[BLOCK]
    cdef Py_ssize_t at
    memset(block, pad, BLOCK)
    for at in range(key_size):
        block[at] = key[at] ^ pad
    if not (
        _digest_init(_digesting, _sha256, NULL)
        and _digest_update(_digesting, block, BLOCK)
        and _digest_update(_digesting, data, size)
        and _digest_final(_digesting, out, NULL)
    ):
        raise CryptoFailed("SHA-256")
    return 0


cdef int marked_sha256(
    unsigned char mark,
    const unsigned char *first,
    Py_ssize_t first_size,
    const unsigned char *second,
    Py_ssize_t second_size,
    unsigned char *out,
) except -1:
    """SHA-256 of a mark and two pieces behind it (RFC 9162 §2.1.1); 32 bytes to `out`."""
    if not (
        _digest_init(_digesting, _sha256, NULL)
        and _digest_update(_digesting, &mark, 1)
        and _digest_update(_digesting, first, first_size)
        and _digest_update(_digesting, second, second_size)
        and _digest_final(_digesting, out, NULL)
    ):
        raise CryptoFailed("SHA-256")
    return 0


cdef class Links:
    """Keyed BLAKE2b of 16 bytes; the key is taken in once."""

    def __cinit__(self, bytes key not None):
        cdef hoopweb_param parameters[3]
        cdef size_t length = LINK
        memset(parameters, 0, sizeof(parameters))  # the last one ends them
        parameters[0].key, parameters[0].data_type = b"key", HOOPWEB_OCTET_STRING
        parameters[0].data, parameters[0].data_size = PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
        parameters[1].key, parameters[1].data_type = b"size", HOOPWEB_UNSIGNED_INTEGER
        parameters[1].data, parameters[1].data_size = &length, sizeof(length)
        self.context = _new_mac(_blake2b)
        if self.context is NULL:
            raise MemoryError
        if not _mac_init(self.context, NULL, 0, parameters):
            raise ValueError(f"a key of {len(key)} bytes, expected 1 to 64")

    def __dealloc__(self):
        _free_mac(self.context)

    def link(self, bytes previous not None, bytes payload not None):
        cdef unsigned char out[LINK]
        if PyBytes_GET_SIZE(previous) != LINK:
            raise ValueError("a link has 16 bytes")
        self.put(
            <const unsigned char *>PyBytes_AS_STRING(previous),
            <const unsigned char *>PyBytes_AS_STRING(payload),
            PyBytes_GET_SIZE(payload),
            out,
        )
        return PyBytes_FromStringAndSize(<const char *>out, LINK)

    cdef int put(
        self, const unsigned char *previous, const unsigned char *payload, Py_ssize_t size, unsigned char *out
    ) except -1:
        """16 bytes to `out`, from 16 of `previous`."""
        cdef size_t written = 0
        if not (
            _mac_init(self.context, NULL, 0, NULL)
            and _mac_update(self.context, previous, LINK)
            and _mac_update(self.context, payload, size)
            and _mac_final(self.context, out, &written, LINK)
            and written == LINK
        ):
            raise CryptoFailed("BLAKE2b")
        return 0


cdef class AesGcm:
    """AES-256-GCM under one key, for sealing."""

    def __cinit__(self, bytes key not None):
        if PyBytes_GET_SIZE(key) != KEY:
            raise ValueError(f"a key of {len(key)} bytes, expected {KEY}")
        self.context = _new_cipher()
        if self.context is NULL:
            raise MemoryError
        if not _cipher_init(self.context, _aes_gcm, <const unsigned char *>PyBytes_AS_STRING(key), NULL, NULL):
            raise CryptoFailed("AES-256-GCM")

    def __dealloc__(self):
        _free_cipher(self.context)

    def encrypt(self, bytes nonce not None, bytes data not None, bytes associated_data not None):
        cdef bytes out
        if PyBytes_GET_SIZE(nonce) != NONCE:
            raise ValueError(f"a nonce of {len(nonce)} bytes, expected {NONCE}")
        out = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(data) + TAG)
        self.seal(
            <const unsigned char *>PyBytes_AS_STRING(nonce),
            <const unsigned char *>PyBytes_AS_STRING(associated_data),
            PyBytes_GET_SIZE(associated_data),
            <const unsigned char *>PyBytes_AS_STRING(data),
            PyBytes_GET_SIZE(data),
            NULL,
            0,
            <unsigned char *>PyBytes_AS_STRING(out),
        )
        return out

    cdef int seal(
        self,
        const unsigned char *nonce,
        const unsigned char *bound,
        Py_ssize_t bound_size,
        const unsigned char *first,
        Py_ssize_t first_size,
        const unsigned char *second,
        Py_ssize_t second_size,
        unsigned char *out,
    ) except -1:
        """Encrypt `first` and `second` behind it; ciphertext and tag (16 bytes) to `out`. A nonce has 12 bytes."""
        cdef int begun = 0, went_on = 0, ended = 0, some = 0
        if first_size > _MOST or second_size > _MOST or bound_size > _MOST:
            raise ValueError("more than one box holds")
        if not (
            _cipher_init(self.context, NULL, NULL, nonce, NULL)
            and _cipher_update(self.context, NULL, &some, bound, <int>bound_size)
            and (first_size == 0 or _cipher_update(self.context, out, &begun, first, <int>first_size))
            and (second_size == 0 or _cipher_update(self.context, out + begun, &went_on, second, <int>second_size))
            and _cipher_final(self.context, out + begun + went_on, &ended)
            and begun + went_on + ended == first_size + second_size
            and _cipher_control(self.context, GET_TAG, TAG, out + first_size + second_size)
        ):
            raise CryptoFailed("AES-256-GCM")
        return 0


cdef Py_ssize_t _MOST = 1 << 30
