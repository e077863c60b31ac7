# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twin of `following.follow_rows`. Between taking the rows' addresses and its answer it holds no lock."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from audit.domain._openssl cimport marked_sha256

cdef const char *_HEX = b"0123456789abcdef"
cdef enum:
    DIGEST = 32
    LEVELS = 64  # of a tree no larger than its size can be written
    PLACE = 128  # bytes that hold an entry's place: 9 + 64 + 8 + 20 + 12

cdef struct Stored:
    int64_t seq
    const unsigned char *leaf
    const unsigned char *prev
    const unsigned char *canonical
    Py_ssize_t size


cdef struct Tree:
    int64_t size
    int count
    unsigned char nodes[LEVELS][DIGEST]


def follow_rows(rows not None, bytes leaf not None, int64_t size, tuple nodes not None):
    cdef list held = list(rows)  # what the addresses are taken of stays as long as this
    cdef Py_ssize_t count = len(held), number, taken
    cdef unsigned char newest[DIGEST]
    cdef Tree tree
    cdef Stored *stored
    if PyBytes_GET_SIZE(leaf) != DIGEST or len(nodes) > LEVELS or size < 0 or size.bit_count() != len(nodes):
        raise ValueError("not the head of a log")
    tree.size, tree.count = size, 0
    for node in nodes:
        if len(<bytes?>node) != DIGEST:
            raise ValueError("not the head of a log")
        memcpy(tree.nodes[tree.count], PyBytes_AS_STRING(<bytes>node), DIGEST)
        tree.count += 1
    memcpy(newest, PyBytes_AS_STRING(leaf), DIGEST)
    stored = <Stored *>malloc(max(count, 1) * sizeof(Stored))
    if stored is NULL:
        raise MemoryError
    try:
        for number in range(count):
            if not _take(&stored[number], <tuple?>held[number]):
                count = number
                break
        with nogil:
            taken = _follow(stored, count, newest, &tree)
    finally:
        free(stored)
    return (
        taken,
        PyBytes_FromStringAndSize(<const char *>newest, DIGEST),
        tuple([PyBytes_FromStringAndSize(<const char *>tree.nodes[number], DIGEST) for number in range(tree.count)]),
    )


cdef bint _take(Stored *stored, tuple row) except -1:
    """The row's addresses; False where its hashes have other lengths."""
    cdef bytes leaf, prev, canonical
    if len(row) != 4:
        raise ValueError("a row has a place, two hashes and an entry")
    leaf, prev, canonical = <bytes?>row[1], <bytes?>row[2], <bytes?>row[3]
    stored.seq = row[0]
    stored.leaf = <const unsigned char *>PyBytes_AS_STRING(leaf)
    stored.prev = <const unsigned char *>PyBytes_AS_STRING(prev)
    stored.canonical = <const unsigned char *>PyBytes_AS_STRING(canonical)
    stored.size = PyBytes_GET_SIZE(canonical)
    return PyBytes_GET_SIZE(leaf) == DIGEST and PyBytes_GET_SIZE(prev) == DIGEST


cdef Py_ssize_t _follow(
    const Stored *stored, Py_ssize_t count, unsigned char *newest, Tree *tree
) noexcept nogil:
    """How many stand; `newest` and `tree` are theirs then."""
    cdef unsigned char digest[DIGEST]
    cdef Py_ssize_t number
    for number in range(count):
        if (
            stored[number].seq != tree.size + 1
            or memcmp(stored[number].prev, newest, DIGEST) != 0
            or not _stands_behind(stored[number].canonical, stored[number].size, stored[number].seq, newest)
        ):
            return number
        marked_sha256(0, stored[number].canonical, stored[number].size, NULL, 0, digest)
        if memcmp(digest, stored[number].leaf, DIGEST) != 0:
            return number
        _grow(tree, digest)
        memcpy(newest, digest, DIGEST)
    return count


cdef bint _stands_behind(
    const unsigned char *canonical, Py_ssize_t size, int64_t seq, const unsigned char *prev
) noexcept nogil:
    """`findings.stands_behind`."""
    cdef char place[PLACE]
    cdef char digits[24]
    cdef Py_ssize_t at = size - 9, number, length = snprintf(digits, sizeof(digits), b"%lld", <long long>seq)
    while at > 0 and not (canonical[at] == 0x2C and memcmp(canonical + at, b',"prev":"', 9) == 0):
        at -= 1
    if at <= 0:
        return False
    memcpy(place, b',"prev":"', 9)
    for number in range(DIGEST):
        place[9 + 2 * number] = _HEX[prev[number] >> 4]
        place[10 + 2 * number] = _HEX[prev[number] & 15]
    memcpy(place + 73, b'","seq":', 8)
    memcpy(place + 81, digits, length)
    memcpy(place + 81 + length, b',"session":"', 12)
    length += 93
    return size - at >= length and memcmp(canonical + at, place, length) == 0


cdef void _grow(Tree *tree, const unsigned char *leaf) noexcept nogil:
    """`merkle.Frontier.extend` by one."""
    cdef unsigned char node[DIGEST]
    cdef int64_t carry = tree.size
    memcpy(node, leaf, DIGEST)
    while carry & 1:
        tree.count -= 1
        marked_sha256(1, tree.nodes[tree.count], DIGEST, node, DIGEST, node)
        carry >>= 1
    memcpy(tree.nodes[tree.count], node, DIGEST)
    tree.count += 1
    tree.size += 1
