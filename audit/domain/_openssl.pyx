# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Digests and the cipher of an entry, called in OpenSSL's libcrypto without an object of the interpreter between.

The compiled twins of `links.Links` and of what `commitment`, `merkle` and `box` ask of hashlib and `cryptography`: the same
algorithms of the same library, a tenth of the way to them. The library is the one this Python's hashlib is linked to;
where it is another, importing this module fails and the Python twins serve.

Digests go by `SHA256_Init` and its siblings, whose state is a structure: half of what a digest of a few hundred bytes costs by
EVP is finding and making its context, and a state begun with a key is copied, not computed again. They pass by the library's
providers, so where those are told to be FIPS 140's, importing this module fails too.

The cipher is used with the interpreter's lock held and calls nothing of the interpreter meanwhile, so its context may be
shared between threads. Digests have no state but their own and need no lock.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.string cimport memcpy, memset

cdef extern from "dlfcn.h":
    void *dlopen(const char *name, int flags)
    void *dlsym(void *library, const char *name)
    int RTLD_NOW

cdef enum:
    BLOCK = 64  # bytes SHA-256 takes at once (FIPS 180-4)
    DIGEST = 32
    LINK = 16
    KEY = 32
    LABEL = 252
    NONCE = 12
    TAG = 16
    GET_TAG = 0x10  # EVP_CTRL_AEAD_GET_TAG

ctypedef int (*_Sha256Init)(Sha256 *) noexcept nogil
ctypedef int (*_Sha256Update)(Sha256 *, const void *, size_t) noexcept nogil
ctypedef int (*_Sha256Final)(unsigned char *, Sha256 *) noexcept nogil
ctypedef int (*_FipsEnabled)(void *) noexcept nogil
ctypedef void *(*_Fetch)(void *, const char *, const char *) noexcept nogil
ctypedef void *(*_New)() noexcept nogil
ctypedef void (*_Free)(void *) noexcept nogil
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


if (<_FipsEnabled>_symbol(b"EVP_default_properties_is_fips_enabled"))(NULL):
    raise ImportError("libcrypto.so.3 is told to use FIPS providers alone")

cdef _Sha256Init _sha256_init = <_Sha256Init>_symbol(b"SHA256_Init")
cdef _Sha256Update _sha256_update = <_Sha256Update>_symbol(b"SHA256_Update")
cdef _Sha256Final _sha256_final = <_Sha256Final>_symbol(b"SHA256_Final")
cdef _New _new_cipher = <_New>_symbol(b"EVP_CIPHER_CTX_new")
cdef _Free _free_cipher = <_Free>_symbol(b"EVP_CIPHER_CTX_free")
cdef _CipherInit _cipher_init = <_CipherInit>_symbol(b"EVP_EncryptInit_ex2")
cdef _CipherUpdate _cipher_update = <_CipherUpdate>_symbol(b"EVP_EncryptUpdate")
cdef _CipherFinal _cipher_final = <_CipherFinal>_symbol(b"EVP_EncryptFinal_ex")
cdef _CipherControl _cipher_control = <_CipherControl>_symbol(b"EVP_CIPHER_CTX_ctrl")

# Fetched once, for as long as the process lives.
cdef void *_aes_gcm = (<_Fetch>_symbol(b"EVP_CIPHER_fetch"))(NULL, b"AES-256-GCM", NULL)
if _aes_gcm is NULL:
    raise ImportError("libcrypto.so.3 does not offer AES-256-GCM")


class CryptoFailed(RuntimeError):
    """The library refused: nothing was sealed, and nothing may be recorded with what it left."""


# `SHA256_Init` and its siblings take no memory and have nothing to refuse: what they return is always 1.

cdef void marked_sha256(
    unsigned char mark,
    const unsigned char *first,
    Py_ssize_t first_size,
    const unsigned char *second,
    Py_ssize_t second_size,
    unsigned char *out,
) noexcept nogil:
    """SHA-256 of a mark and two pieces behind it (RFC 9162 §2.1.1); 32 bytes to `out`."""
    cdef Sha256 state
    _sha256_init(&state)
    _sha256_update(&state, &mark, 1)
    _sha256_update(&state, first, first_size)
    _sha256_update(&state, second, second_size)
    _sha256_final(out, &state)


cdef int hmac_sha256(
    const unsigned char *key, Py_ssize_t key_size, const unsigned char *data, Py_ssize_t size, unsigned char *out
) except -1:
    """HMAC-SHA-256 (RFC 2104) under a key of at most 64 bytes; 32 bytes to `out`."""
    cdef Hmac begun
    if key_size > BLOCK:
        raise ValueError(f"a salt of {key_size} bytes, expected no more than {BLOCK}")
    _take_key(&begun, key, key_size)
    _hmac(&begun, data, size, NULL, 0, out)
    return 0


cdef void _take_key(Hmac *begun, const unsigned char *key, Py_ssize_t size) noexcept nogil:
    """What HMAC begins with under a key of at most 64 bytes."""
    cdef unsigned char block[BLOCK]
    cdef Py_ssize_t at
    memset(block, 0x36, BLOCK)
    for at in range(size):
        block[at] ^= key[at]
    _sha256_init(&begun.inner)
    _sha256_update(&begun.inner, block, BLOCK)
    for at in range(BLOCK):
        block[at] ^= 0x36 ^ 0x5C
    _sha256_init(&begun.outer)
    _sha256_update(&begun.outer, block, BLOCK)


cdef void _hmac(
    const Hmac *begun,
    const unsigned char *first,
    Py_ssize_t first_size,
    const unsigned char *second,
    Py_ssize_t second_size,
    unsigned char *out,
) noexcept nogil:
    """Of two pieces, one behind the other; 32 bytes to `out`."""
    cdef unsigned char digest[DIGEST]
    cdef Sha256 state = begun.inner
    _sha256_update(&state, first, first_size)
    _sha256_update(&state, second, second_size)
    _sha256_final(digest, &state)
    state = begun.outer
    _sha256_update(&state, digest, DIGEST)
    _sha256_final(out, &state)


cdef class Links:
    """HMAC-SHA-256 of 16 bytes; the key is taken in once."""

    def __cinit__(self, bytes key not None):
        if not 1 <= PyBytes_GET_SIZE(key) <= BLOCK:
            raise ValueError(f"a key of {len(key)} bytes, expected 1 to {BLOCK}")
        _take_key(&self.begun, <const unsigned char *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))

    def link(self, bytes previous not None, bytes payload not None):
        cdef unsigned char out[LINK]
        if PyBytes_GET_SIZE(previous) != LINK:
            raise ValueError(f"a link has {LINK} bytes")
        self.put(
            <const unsigned char *>PyBytes_AS_STRING(previous),
            <const unsigned char *>PyBytes_AS_STRING(payload),
            PyBytes_GET_SIZE(payload),
            out,
        )
        return PyBytes_FromStringAndSize(<const char *>out, LINK)

    cdef void put(
        self, const unsigned char *previous, const unsigned char *payload, Py_ssize_t size, unsigned char *out
    ) noexcept:
        """16 bytes to `out`, from 16 of `previous`."""
        cdef unsigned char digest[DIGEST]
        _hmac(&self.begun, previous, LINK, payload, size, digest)
        memcpy(out, digest, LINK)


cdef class Labelled:
    """HMAC-SHA-256 of a label, of the value's length (4 bytes, big-endian) and of the value; the key is taken in once."""

    def __cinit__(self, bytes key not None, bytes label not None):
        if not 1 <= PyBytes_GET_SIZE(key) <= BLOCK:
            raise ValueError(f"a key of {len(key)} bytes, expected 1 to {BLOCK}")
        if PyBytes_GET_SIZE(label) > LABEL:
            raise ValueError(f"a label of {len(label)} bytes, expected no more than {LABEL}")
        _take_key(&self.begun, <const unsigned char *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        self.label = PyBytes_GET_SIZE(label)
        memcpy(self.before, PyBytes_AS_STRING(label), self.label)

    def digest(self, bytes value not None):
        cdef unsigned char out[DIGEST]
        self.put(<const unsigned char *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), out)
        return PyBytes_FromStringAndSize(<const char *>out, DIGEST)

    cdef int put(self, const unsigned char *value, Py_ssize_t size, unsigned char *out) except -1:
        """32 bytes to `out`."""
        cdef Py_ssize_t at
        if size > 0xFFFFFFFF:
            raise ValueError("a value longer than its length can say")
        for at in range(4):
            self.before[self.label + at] = (size >> (24 - 8 * at)) & 0xFF
        _hmac(&self.begun, self.before, self.label + 4, value, size, out)
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
