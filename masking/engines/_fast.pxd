cdef class FastMask:
    cdef readonly object ordinary
    cdef Py_ssize_t most
    cdef Py_ssize_t put(self, const unsigned char *value, Py_ssize_t size, unsigned char *into) except -2
