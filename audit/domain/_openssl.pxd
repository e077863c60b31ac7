from libc.stdint cimport uint32_t


cdef struct Sha256:  # SHA256_CTX (openssl/sha.h)
    uint32_t hash[8]
    uint32_t length_low, length_high
    uint32_t data[16]
    unsigned int number, digest_length


cdef struct Hmac:  # as far as a key alone has it
    Sha256 inner, outer


cdef class AesGcm:
    cdef void *context
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
    ) except -1


cdef class Links:
    cdef Hmac begun
    cdef void put(
        self, const unsigned char *previous, const unsigned char *payload, Py_ssize_t size, unsigned char *out
    ) noexcept


cdef class Labelled:
    cdef Hmac begun
    cdef unsigned char before[256]
    cdef Py_ssize_t label
    cdef int put(self, const unsigned char *value, Py_ssize_t size, unsigned char *out) except -1


cdef void marked_sha256(
    unsigned char mark,
    const unsigned char *first,
    Py_ssize_t first_size,
    const unsigned char *second,
    Py_ssize_t second_size,
    unsigned char *out,
) noexcept nogil
cdef int hmac_sha256(
    const unsigned char *key, Py_ssize_t key_size, const unsigned char *data, Py_ssize_t size, unsigned char *out
) except -1
