/* A machine of three GPUs behind the calls of NVML that topology needs, declared as in nvml.h: in NVML's order c, b, a. a has four links to
   a switch and two to c, b four to the switch, c two to a. */
#include <string.h>

typedef struct {
    char busIdLegacy[16];
    unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;
typedef struct nvmlDevice_st* nvmlDevice_t;
typedef int nvmlReturn_t;

enum { NVML_SUCCESS = 0, NVML_ERROR_INVALID_ARGUMENT = 2, NVML_ERROR_NOT_FOUND = 6 };
enum { TYPE_GPU = 0, TYPE_SWITCH = 2 };

static int gpus[3];
static int number(nvmlDevice_t device) { return (int)((int*)device - gpus); }
static int initialised;

nvmlReturn_t nvmlInit_v2(void) { initialised = 1; return NVML_SUCCESS; }
nvmlReturn_t nvmlShutdown(void) { initialised = 0; return NVML_SUCCESS; }

nvmlReturn_t nvmlSystemGetDriverVersion(char* version, unsigned int length) {
    if (!initialised || length < 80) return NVML_ERROR_INVALID_ARGUMENT;
    strcpy(version, "580.00");
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
    if (strncmp(uuid, "GPU-", 4) != 0 || uuid[4] < 'a' || uuid[4] > 'c') return NVML_ERROR_NOT_FOUND;
    *device = (nvmlDevice_t)&gpus['c' - uuid[4]];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int* index) {
    *index = (unsigned int)number(device);
    return NVML_SUCCESS;
}

static void place(int gpu, nvmlPciInfo_t* pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = 0x1b + (unsigned int)gpu;
    pci->pciDeviceId = 0x233510de;
    strcpy(pci->busId, "00000000:1B:00.0");
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t* pci) {
    place(number(device), pci);
    return NVML_SUCCESS;
}

static int switched(int gpu) { return gpu == 0 ? 0 : 4; }
static int direct(int gpu) { return gpu == 1 ? 0 : 2; }

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, unsigned int* active) {
    int gpu = number(device);
    if (link >= 12) return NVML_ERROR_INVALID_ARGUMENT;
    *active = (int)link < switched(gpu) + direct(gpu);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link, unsigned int* type) {
    *type = (int)link < switched(number(device)) ? TYPE_SWITCH : TYPE_GPU;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t* pci) {
    int gpu = number(device);
    if ((int)link < switched(gpu)) return NVML_ERROR_INVALID_ARGUMENT;
    place(2 - gpu, pci);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t one, nvmlDevice_t other, int index, int* status) {
    if (index != 2) return NVML_ERROR_INVALID_ARGUMENT;
    /* What NVML says of GPUs at one switch, and of a bridge. */
    *status = (switched(number(one)) && switched(number(other))) || number(one) + number(other) == 2 ? 0 : 4;
    return NVML_SUCCESS;
}
