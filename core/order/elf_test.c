/* SPDX-License-Identifier: Apache-2.0 */
/* Programs' first bytes: of this very program, and of what only looks like one. */
#include "check.h"
#include "order/elf_look.h"
#include "order/format.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <hither/order.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AT = 3 * 4096, PAGE = 4096 };

static unsigned char *image; /* this program, at AT */
static size_t image_bytes;
static bool *here; /* [pages] */
static struct hither_error err;

static int peek(const struct hither_order_view *view, void *buf, size_t len, uint64_t offset)
{
	if (offset > view->size_bytes || len > view->size_bytes - offset)
		return -EINVAL;
	for (uint64_t p = offset / PAGE; p <= (offset + len - 1) / PAGE; p++)
		if (!here[p])
			return -EAGAIN;
	memcpy(buf, image + offset, len);
	return 0;
}

static struct hither_order_view view = {.peek = peek};

static void load_self(void)
{
	struct stat st;
	int fd = open("/proc/self/exe", O_RDONLY);
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	image_bytes = AT + (size_t)st.st_size;
	image = calloc(1, image_bytes);
	here = calloc(image_bytes / PAGE + 1, sizeof *here);
	CHECK(image && here);
	CHECK_EQ(read(fd, image + AT, (size_t)st.st_size), st.st_size);
	close(fd);
	view.size_bytes = image_bytes;
}

static void fetch(struct hither_range r)
{
	CHECK(r.len && r.offset >= AT && r.offset + r.len <= image_bytes);
	for (uint64_t p = r.offset / PAGE; p <= (r.offset + r.len - 1) / PAGE; p++)
		here[p] = true;
}

static void what_a_program_needs_is_found_step_by_step(void)
{
	const struct hither_order_format *f = &hither_order_elf;
	struct hither_order *o;
	struct hither_range r;
	CHECK_OK(f->create(&view, &o, &err));
	CHECK(!o->ops->next(o, 1 << 20, &r));
	o->ops->saw(o, AT, 4096, true); /* somebody waits for its first page */
	unsigned steps = 0;
	while (o->ops->next(o, 1 << 20, &r)) {
		fetch(r);
		CHECK(++steps < ELF_RANGES);
	}
	hither_order_destroy(o);
	CHECK(steps > 5);
	/* Where it begins, and where its data are, must be here; most of it is not. */
	const Elf64_Ehdr *head = (const void *)(image + AT);
	const Elf64_Phdr *s = (const void *)(image + AT + head->e_phoff);
	for (int i = 0; i < head->e_phnum; i++) {
		uint64_t from = AT + s[i].p_offset;
		if (s[i].p_type == PT_DYNAMIC || s[i].p_type == PT_INTERP)
			CHECK(here[from / PAGE] && here[(from + s[i].p_filesz - 1) / PAGE]);
		if (s[i].p_type == PT_LOAD && head->e_entry >= s[i].p_vaddr &&
		    head->e_entry - s[i].p_vaddr < s[i].p_filesz)
			CHECK(here[(from + head->e_entry - s[i].p_vaddr) / PAGE]);
	}
	/* What was looked at is not looked at again. */
	CHECK_OK(f->create(&view, &o, &err));
	o->ops->saw(o, AT, 4096, false);
	while (o->ops->next(o, 1 << 20, &r))
		;
	o->ops->saw(o, AT, 4096, false);
	CHECK(!o->ops->next(o, 1 << 20, &r));
	o->ops->saw(o, AT + 100, 4096, false);
	o->ops->saw(o, 0, 4096, false);
	o->ops->saw(o, UINT64_MAX - 4095, 4096, true);
	CHECK(!o->ops->next(o, 1 << 20, &r));
	hither_order_destroy(o);
}

static void the_same_ranges_come_again(void)
{
	struct elf_look few, many;
	memset(here, 0, image_bytes / PAGE + 1);
	CHECK_EQ(elf_look(&view, AT, &few), -EAGAIN);
	CHECK_EQ(few.count, 1);
	memset(here, 1, image_bytes / PAGE + 1);
	CHECK_EQ(elf_look(&view, AT, &many), 0);
	CHECK(many.count > few.count);
	CHECK(!memcmp(few.ranges, many.ranges, few.count * sizeof few.ranges[0]));
}

static void what_is_no_program_is_left_alone(void)
{
	struct elf_look look;
	unsigned char saved[4096];
	memset(here, 1, image_bytes / PAGE + 1);
	CHECK_EQ(elf_look(&view, 0, &look), -EINVAL); /* zeros */
	CHECK_EQ(elf_look(&view, image_bytes - 10, &look), -EINVAL);
	CHECK_EQ(elf_look(&view, UINT64_MAX - 10, &look), -EINVAL);
	memcpy(saved, image + AT, sizeof saved);
	/* Every byte of the head and the program headers wrong, one at a time, in three ways. */
	for (size_t i = 0; i < 1024; i++) {
		static const unsigned char wrong[] = {0, 0x7f, 0xff};
		for (size_t k = 0; k < sizeof wrong; k++) {
			image[AT + i] = wrong[k];
			int r = elf_look(&view, AT, &look);
			CHECK(r == 0 || r == -EINVAL);
			for (unsigned n = 0; n < look.count; n++)
				CHECK(look.ranges[n].len &&
				      look.ranges[n].offset + look.ranges[n].len <= image_bytes);
		}
		image[AT + i] = saved[i];
	}
}

static void its_first_bytes_tell(void)
{
	CHECK(hither_order_elf.recognise(image + AT, 4096, image_bytes));
	CHECK(!hither_order_elf.recognise(image, 4096, image_bytes));
	CHECK(!hither_order_elf.recognise(image + AT, 20, 20));
	CHECK_OK(hither_order_check_name("elf", &err));
}

int main(void)
{
	load_self();
	RUN(what_a_program_needs_is_found_step_by_step);
	RUN(the_same_ranges_come_again);
	RUN(what_is_no_program_is_left_alone);
	RUN(its_first_bytes_tell);
	free(image);
	free(here);
	return 0;
}
