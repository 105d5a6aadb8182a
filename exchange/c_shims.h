/* What the shims have in common: see c_shims.py.
 *
 * Sources: the ELF specification, "Dynamic Section"; dl_iterate_phdr(3). */
#ifndef EXCHANGE_C_SHIMS_H
#define EXCHANGE_C_SHIMS_H
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)

/* Have one loaded library call a function of ours instead of the one that it imports by name. */
struct replacement {
    const char *library; /* part of its file's name */
    const char *symbol;
    void *ours;
};

static int replace_in_object(struct dl_phdr_info *object, size_t size, void *data) {
    (void)size;
    const struct replacement *wanted = data;
    if (strstr(object->dlpi_name, wanted->library) == NULL) return 0;
    const ElfW(Dyn) *dynamic = NULL;
    for (int index = 0; index < object->dlpi_phnum; index++)
        if (object->dlpi_phdr[index].p_type == PT_DYNAMIC)
            dynamic = (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[index].p_vaddr);
    const ElfW(Rela) *places = NULL;
    const ElfW(Sym) *symbols = NULL;
    const char *names = NULL;
    size_t count = 0;
    for (; dynamic != NULL && dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_JMPREL) places = (const ElfW(Rela) *)dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_PLTRELSZ) count = dynamic->d_un.d_val / sizeof *places;
        if (dynamic->d_tag == DT_SYMTAB) symbols = (const ElfW(Sym) *)dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_STRTAB) names = (const char *)dynamic->d_un.d_ptr;
    }
    if (places == NULL || symbols == NULL || names == NULL) return 0;
    uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (size_t index = 0; index < count; index++) {
        if (strcmp(names + symbols[places[index].r_info >> 32].st_name, wanted->symbol) != 0) continue;
        void **place = (void **)(object->dlpi_addr + places[index].r_offset);
        void *page = (void *)((uintptr_t)place & ~(page_bytes - 1));
        /* It may be read-only by now; then it has been bound, and nobody else will write it. */
        if (mprotect(page, page_bytes, PROT_READ | PROT_WRITE) == 0) *place = wanted->ours;
    }
    return 0;
}

static inline void replace_import(const char *library, const char *symbol, void *ours) {
    struct replacement wanted = {library, symbol, ours};
    dl_iterate_phdr(replace_in_object, &wanted);
}
#endif
