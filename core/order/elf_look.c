/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format: System V ABI, "Object Files", and its elf.h. What is read first, by Linux's
 * fs/binfmt_elf.c and glibc's elf/rtld.c, elf/dl-load.c and elf/dl-reloc.c:
 *
 *     header, program headers -> interpreter's name -> the page that ends the data (its rest is
 *     zeroed) -> dynamic section -> names, symbols, hashes and relocations of it -> what is
 *     relocated, which is the writable segment -> where it begins
 */
#include "order/elf_look.h"

#include "order/piece.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

enum {
	PHDRS_MOST = 64,
	DYNAMIC_MOST = 1024, /* entries */
	PAGE = 4096,
};
#define DATA_MOST (UINT64_C(2) << 20)  /* a longer segment is not touched as a whole */
#define TABLE_MOST (UINT64_C(4) << 20) /* of relocations, symbols, names */
#define START_BYTES (UINT64_C(32) << 10)

/* One program header, of either class. */
struct segment {
	uint32_t type, flags;
	uint64_t offset, address, file_bytes;
};

struct image {
	const struct hither_order_view *view;
	uint64_t base;
	struct elf_look *out;
	bool wide; /* 64 bits */
	uint64_t entry, headers_at;
	uint32_t header_bytes, count;
	struct segment segments[PHDRS_MOST];
};

/* --- reading and asking --- */

static void want(struct image *im, uint64_t offset, uint64_t len)
{
	struct hither_range r;
	if (im->out->count == ELF_RANGES || __builtin_add_overflow(im->base, offset, &r.offset))
		return;
	r.len = len;
	if (hither_order_clip(&r, im->view->size_bytes))
		im->out->ranges[im->out->count++] = r;
}

static int get(struct image *im, void *buf, size_t len, uint64_t offset)
{
	uint64_t at, end;
	if (__builtin_add_overflow(im->base, offset, &at) ||
	    __builtin_add_overflow(at, len, &end) || end > im->view->size_bytes)
		return -EINVAL;
	return im->view->peek(im->view, buf, len, at);
}

/* The same of what is wanted anyway. */
static int load(struct image *im, void *buf, size_t len, uint64_t offset)
{
	want(im, offset, len);
	return get(im, buf, len, offset);
}

/* --- headers --- */

static int take_head(struct image *im)
{
	/* Both classes begin alike; what is little-endian here is so everywhere that counts. */
	union {
		unsigned char bytes[ELF_HEAD_BYTES];
		Elf32_Ehdr narrow;
		Elf64_Ehdr wide;
	} head;
	int r = load(im, &head, sizeof head, 0);
	if (r)
		return r;
	const unsigned char *e = head.bytes;
	const unsigned char here =
	        __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
	if (memcmp(e, ELFMAG, SELFMAG) != 0 || e[EI_DATA] != here ||
	    (e[EI_CLASS] != ELFCLASS32 && e[EI_CLASS] != ELFCLASS64))
		return -EINVAL;
	im->wide = e[EI_CLASS] == ELFCLASS64;
	uint16_t type = im->wide ? head.wide.e_type : head.narrow.e_type;
	im->entry = im->wide ? head.wide.e_entry : head.narrow.e_entry;
	im->headers_at = im->wide ? head.wide.e_phoff : head.narrow.e_phoff;
	im->header_bytes = im->wide ? head.wide.e_phentsize : head.narrow.e_phentsize;
	im->count = im->wide ? head.wide.e_phnum : head.narrow.e_phnum;
	size_t expected = im->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	if ((type != ET_EXEC && type != ET_DYN) || im->header_bytes != expected || !im->count ||
	    im->count > PHDRS_MOST)
		return -EINVAL;
	return 0;
}

static int take_segments(struct image *im)
{
	union {
		Elf32_Phdr narrow[PHDRS_MOST];
		Elf64_Phdr wide[PHDRS_MOST];
	} table;
	int r = load(im, &table, (size_t)im->count * im->header_bytes, im->headers_at);
	for (uint32_t i = 0; !r && i < im->count; i++) {
		const Elf32_Phdr *n = &table.narrow[i];
		const Elf64_Phdr *w = &table.wide[i];
		im->segments[i] = im->wide ? (struct segment){w->p_type, w->p_flags, w->p_offset,
		                                              w->p_vaddr, w->p_filesz}
		                           : (struct segment){n->p_type, n->p_flags, n->p_offset,
		                                              n->p_vaddr, n->p_filesz};
	}
	return r;
}

static const struct segment *find(const struct image *im, uint32_t type)
{
	for (uint32_t i = 0; i < im->count; i++)
		if (im->segments[i].type == type)
			return &im->segments[i];
	return NULL;
}

/* Where in the file the byte is that is loaded at `address`; *left: bytes of its segment from
 * there on. */
static bool place(const struct image *im, uint64_t address, uint64_t *offset, uint64_t *left)
{
	for (uint32_t i = 0; i < im->count; i++) {
		const struct segment *s = &im->segments[i];
		if (s->type != PT_LOAD || address < s->address ||
		    address - s->address >= s->file_bytes)
			continue;
		*left = s->file_bytes - (address - s->address);
		return !__builtin_add_overflow(s->offset, address - s->address, offset);
	}
	return false;
}

static void want_address(struct image *im, uint64_t address, uint64_t len)
{
	uint64_t offset, left;
	if (len && place(im, address, &offset, &left))
		want(im, offset, len < left ? len : left);
}

/* --- the dynamic section --- */

enum table {
	NAMES,
	NAMES_BYTES,
	SYMBOLS,
	HASH,
	VERSIONS,
	NEEDED,
	RELA,
	RELA_BYTES,
	REL,
	REL_BYTES,
	RELR,
	RELR_BYTES,
	PLT,
	PLT_BYTES,
	INIT,
	INITS,
	INITS_BYTES,
	TABLES,
};

static void note(uint64_t values[TABLES], uint64_t tag, uint64_t value)
{
	static const uint64_t tags[TABLES] = {
	        [NAMES] = DT_STRTAB,
	        [NAMES_BYTES] = DT_STRSZ,
	        [SYMBOLS] = DT_SYMTAB,
	        [HASH] = DT_GNU_HASH,
	        [VERSIONS] = DT_VERSYM,
	        [NEEDED] = DT_VERNEED,
	        [RELA] = DT_RELA,
	        [RELA_BYTES] = DT_RELASZ,
	        [REL] = DT_REL,
	        [REL_BYTES] = DT_RELSZ,
	        [RELR] = 36 /* DT_RELR */,
	        [RELR_BYTES] = 35 /* DT_RELRSZ */,
	        [PLT] = DT_JMPREL,
	        [PLT_BYTES] = DT_PLTRELSZ,
	        [INIT] = DT_INIT,
	        [INITS] = DT_INIT_ARRAY,
	        [INITS_BYTES] = DT_INIT_ARRAYSZ,
	};
	for (size_t i = 0; i < TABLES; i++)
		if (tags[i] == tag)
			values[i] = value;
}

static uint64_t at_most(uint64_t value, uint64_t most)
{
	return value < most ? value : most;
}

static int take_dynamic(struct image *im, const struct segment *s)
{
	union {
		Elf32_Dyn narrow[DYNAMIC_MOST];
		Elf64_Dyn wide[DYNAMIC_MOST];
	} table;
	uint64_t v[TABLES] = {0};
	size_t each = im->wide ? sizeof(Elf64_Dyn) : sizeof(Elf32_Dyn);
	uint64_t count = at_most(s->file_bytes / each, DYNAMIC_MOST);
	if (!count)
		return 0;
	int r = load(im, &table, (size_t)count * each, s->offset);
	if (r)
		return r;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t tag = im->wide ? (uint64_t)table.wide[i].d_tag
		                        : (uint64_t)(uint32_t)table.narrow[i].d_tag;
		if (tag == DT_NULL)
			break;
		note(v, tag, im->wide ? table.wide[i].d_un.d_val : table.narrow[i].d_un.d_val);
	}
	want_address(im, v[NAMES], at_most(v[NAMES_BYTES], TABLE_MOST));
	/* Nothing says how many symbols there are; the names lie behind them. */
	want_address(im, v[SYMBOLS],
	             v[NAMES] > v[SYMBOLS] ? at_most(v[NAMES] - v[SYMBOLS], TABLE_MOST) : PAGE);
	want_address(im, v[HASH],
	             v[SYMBOLS] > v[HASH] ? at_most(v[SYMBOLS] - v[HASH], TABLE_MOST) : PAGE);
	want_address(im, v[VERSIONS], 4 * PAGE);
	want_address(im, v[NEEDED], PAGE);
	want_address(im, v[RELR], at_most(v[RELR_BYTES], TABLE_MOST));
	want_address(im, v[RELA], at_most(v[RELA_BYTES], TABLE_MOST));
	want_address(im, v[REL], at_most(v[REL_BYTES], TABLE_MOST));
	want_address(im, v[PLT], at_most(v[PLT_BYTES], TABLE_MOST));
	want_address(im, v[INIT], PAGE);
	want_address(im, v[INITS], at_most(v[INITS_BYTES], TABLE_MOST));
	return 0;
}

/* --- all --- */

static void want_data(struct image *im)
{
	for (uint32_t i = 0; i < im->count; i++) {
		const struct segment *s = &im->segments[i];
		bool data = s->type == PT_TLS || (s->type == PT_LOAD && s->flags & PF_W);
		if (!data || !s->file_bytes)
			continue;
		if (s->file_bytes > PAGE) {
			uint64_t last;
			if (!__builtin_add_overflow(s->offset, s->file_bytes - 1, &last))
				want(im, last - last % PAGE, last % PAGE + 1);
		}
		want(im, s->offset, at_most(s->file_bytes, DATA_MOST));
	}
}

int elf_look(const struct hither_order_view *view, uint64_t base, struct elf_look *out)
{
	struct image im = {.view = view, .base = base, .out = out};
	out->count = 0;
	int r = take_head(&im);
	if (!r)
		r = take_segments(&im);
	if (r)
		return r;
	const struct segment *name = find(&im, PT_INTERP), *dynamic = find(&im, PT_DYNAMIC);
	if (name)
		want(&im, name->offset, at_most(name->file_bytes, PAGE));
	uint64_t entry = im.entry > PAGE ? im.entry - im.entry % PAGE : im.entry;
	want_data(&im);
	want_address(&im, entry, START_BYTES);
	return dynamic ? take_dynamic(&im, dynamic) : 0;
}
