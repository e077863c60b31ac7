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
    cdef unsigned char inner[64]
    cdef unsigned char outer[64]
    cdef int put(
        self, const unsigned char *previous, const unsigned char *payload, Py_ssize_t size, unsigned char *out
    ) except -1


cdef class Labelled:
    cdef unsigned char inner[64]
    cdef unsigned char outer[64]
    cdef unsigned char before[256]
    cdef Py_ssize_t label
    cdef int put(self, const unsigned char *value, Py_ssize_t size, unsigned char *out) except -1


cdef class Digesting:
    cdef void *context
    cdef bint marked(
        self,
        unsigned char mark,
        const unsigned char *first,
        Py_ssize_t first_size,
        const unsigned char *second,
        Py_ssize_t second_size,
        unsigned char *out,
    ) noexcept nogil


cdef int marked_sha256(
    unsigned char mark,
    const unsigned char *first,
    Py_ssize_t first_size,
    const unsigned char *second,
    Py_ssize_t second_size,
    unsigned char *out,
) except -1
cdef int hmac_sha256(
    const unsigned char *key, Py_ssize_t key_size, const unsigned char *data, Py_ssize_t size, unsigned char *out
) except -1
