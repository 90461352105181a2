/* NVSHMEM's host library for one process and no GPU, declared as in the headers of 3.4.5. It refuses structs of another version, which names
   their size. Macros before this text change what it answers. */
#include <stddef.h>
#include <string.h>

#ifndef MAJOR
#define MAJOR 3
#endif
#ifndef MINOR
#define MINOR 4
#endif
#ifndef INIT_ANSWERS
#define INIT_ANSWERS 0
#endif
#ifndef ID_ANSWERS
#define ID_ANSWERS 0
#endif
#ifndef PES
#define PES nranks
#endif

/* bootstrap_device_host/nvshmem_uniqueid.h */
typedef struct {
    int version;
    char internal[124];
} nvshmemx_uniqueid_t;
_Static_assert(sizeof(nvshmemx_uniqueid_t) == 128, "uniqueid_v1 must be 128 bytes.");
typedef struct {
    int version;
    nvshmemx_uniqueid_t* id;
    int myrank;
    int nranks;
} nvshmemx_uniqueid_args_t;
_Static_assert(sizeof(nvshmemx_uniqueid_args_t) == 24, "uniqueid_args_v1 must be 24 bytes.");
/* device_host/nvshmem_types.h */
typedef struct {
    int version;
    nvshmemx_uniqueid_args_t uid_args;
    char content[96];
} nvshmemx_init_args_t;
_Static_assert(sizeof(nvshmemx_init_args_t) == 128, "init_args_v1 must be 128 bytes.");
typedef struct {
    int version;
    void* mpi_comm;
    nvshmemx_init_args_t args;
} nvshmemx_init_attr_t;
_Static_assert(sizeof(nvshmemx_init_attr_t) == 144, "init_attr_v1 must be 144 bytes.");

enum { WRONG = 42, INIT_WITH_UNIQUEID = 1 << 3 };
#define VERSION_OF(type) ((1 << 16) + (int)sizeof(type))

static int rank = -1, nranks = -1;
static char heap[4096];

void nvshmemx_vendor_get_version_info(int* major, int* minor, int* patch) {
    *major = MAJOR;
    *minor = MINOR;
    *patch = 5;
}

int nvshmemx_get_uniqueid(nvshmemx_uniqueid_t* id) {
    if (id->version != VERSION_OF(nvshmemx_uniqueid_t)) return WRONG;
    memset(id->internal, 0x5a, sizeof id->internal);
    return ID_ANSWERS;
}

int nvshmemx_set_attr_uniqueid_args(const int myrank, const int ranks, const nvshmemx_uniqueid_t* id, nvshmemx_init_attr_t* attr) {
    if (attr->version != VERSION_OF(nvshmemx_init_attr_t) || attr->args.version != VERSION_OF(nvshmemx_init_args_t)) return WRONG;
    if (attr->args.uid_args.version != VERSION_OF(nvshmemx_uniqueid_args_t) || attr->mpi_comm) return WRONG;
    if (id->version != VERSION_OF(nvshmemx_uniqueid_t) || id->internal[123] != 0x5a) return WRONG;
    attr->args.uid_args.id = (nvshmemx_uniqueid_t*)id;
    attr->args.uid_args.myrank = myrank;
    attr->args.uid_args.nranks = ranks;
    return 0;
}

int nvshmemx_hostlib_init_attr(unsigned int flags, nvshmemx_init_attr_t* attr) {
    if (flags != INIT_WITH_UNIQUEID || !attr->args.uid_args.id) return WRONG;
    rank = attr->args.uid_args.myrank;
    nranks = attr->args.uid_args.nranks;
    return INIT_ANSWERS;
}

int nvshmem_my_pe(void) { return rank; }
int nvshmem_n_pes(void) { return PES; }
void nvshmem_barrier_all(void) {}
void* nvshmem_malloc(size_t bytes) { return nranks > 0 && bytes <= sizeof heap ? heap : NULL; }

void* nvshmem_ptr(const void* dest, int pe) {
    if (pe < 0 || pe >= nranks) return NULL;
    return (char*)dest + (pe == rank ? 0 : 0x1000);
}
