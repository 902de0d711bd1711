/* tools/find_cuda and find_nvcc_host on folders that look like the packagings there are. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/files.h"

struct layout {
    char root[64];
    char found[256];
};

static int setup(void **state)
{
    struct layout *layout = mem_alloc(1, sizeof(*layout));

    snprintf(layout->root, sizeof(layout->root), "/tmp/hone-test-XXXXXX");
    *state = layout;
    return mkdtemp(layout->root) ? 0 : -1;
}

static int teardown(void **state)
{
    struct layout *layout = *state;
    int status = file_remove_tree(layout->root);

    mem_free(layout);
    return status;
}

/* An nvcc below the root that says which release it is. */
static void put_nvcc(const struct layout *layout, const char *folder, const char *release)
{
    char path[512], text[256];

    snprintf(path, sizeof(path), "%s/%s", layout->root, folder);
    assert_int_equal(file_make_directories(path), 0);
    snprintf(path, sizeof(path), "%s/%s/nvcc", layout->root, folder);
    int n = snprintf(text, sizeof(text), "#!/bin/sh\necho 'Cuda compilation tools, release %s, "
                     "V%s.1'\n", release, release);
    assert_int_equal(file_write_atomic(path, text, (size_t)n), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

/* The first line that it prints, without the root. */
static const char *find(struct layout *layout, const char *home, const char *path)
{
    char command[1024], line[512] = "";

    snprintf(command, sizeof(command), "CUDA_HOME=%s%s PATH=%s/%s:/usr/bin:/bin tools/find_cuda "
             "2>&1", *home ? layout->root : "", home, layout->root, path);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    if (!fgets(line, sizeof(line), out))
        line[0] = '\0';
    while (fgetc(out) != EOF)
        continue;
    assert_int_equal(pclose(out), 0);
    line[strcspn(line, "\n")] = '\0';
    size_t n = strlen(layout->root);
    const char *rest = strncmp(line, layout->root, n) == 0 ? line + n : line;
    snprintf(layout->found, sizeof(layout->found), "%.255s", rest);
    return layout->found;
}

static void nvidias_own_folder_is_found(void **state)
{
    struct layout *layout = *state;

    put_nvcc(layout, "usr/local/cuda-12.4/bin", "12.4");
    assert_string_equal(find(layout, "", "usr/local/cuda-12.4/bin"), "/usr/local/cuda-12.4");
}

static void debians_script_is_found_below_usr(void **state)
{
    struct layout *layout = *state;

    put_nvcc(layout, "usr/lib/nvidia-cuda-toolkit/bin", "12.4");
    put_nvcc(layout, "usr/bin", "12.4");
    assert_string_equal(find(layout, "", "usr/bin"), "/usr");
}

static void a_link_leads_to_the_toolkit(void **state)
{
    struct layout *layout = *state;
    char path[512];

    put_nvcc(layout, "opt/cuda/bin", "13.0");
    snprintf(path, sizeof(path), "%s/bin", layout->root);
    assert_int_equal(file_make_directories(path), 0);
    snprintf(path, sizeof(path), "%s/bin/nvcc", layout->root);
    assert_int_equal(symlink("../opt/cuda/bin/nvcc", path), 0);
    assert_string_equal(find(layout, "", "bin"), "/opt/cuda");
}

static void cuda_home_comes_first(void **state)
{
    struct layout *layout = *state;

    put_nvcc(layout, "one/bin", "12.0");
    put_nvcc(layout, "two/bin", "13.0");
    assert_string_equal(find(layout, "/one", "two/bin"), "/one");
}

static void a_toolkit_that_is_too_old_is_passed_over_with_a_line(void **state)
{
    struct layout *layout = *state;

    put_nvcc(layout, "old/bin", "11.8");
    assert_non_null(strstr(find(layout, "/old", "none"), "CUDA 11; 12 or later is needed"));
}

/* A compiler that says its version, or a header of a toolkit that says the newest it takes. */
static void put(const struct layout *layout, const char *folder, const char *name,
                const char *text)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", layout->root, folder);
    assert_int_equal(file_make_directories(path), 0);
    snprintf(path, sizeof(path), "%s/%s/%s", layout->root, folder, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text)), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

static const char *find_host(struct layout *layout, const char *cuda)
{
    char command[1024];

    snprintf(command, sizeof(command), "PATH=%s/bin tools/find_nvcc_host %s/%s %s/bin/c++",
             layout->root, layout->root, cuda, layout->root);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    assert_non_null(fgets(layout->found, sizeof(layout->found), out));
    assert_int_equal(pclose(out), 0);
    layout->found[strcspn(layout->found, "\n")] = '\0';
    const char *slash = strrchr(layout->found, '/');
    return slash ? slash + 1 : layout->found;
}

static void a_compiler_newer_than_the_toolkit_takes_makes_way_for_one_that_it_does(void **state)
{
    struct layout *layout = *state;

    put(layout, "old/include/crt", "host_config.h", "#if __GNUC__ > 12\n");
    put(layout, "new/targets/x86_64-linux/include/crt", "host_config.h", "#if __GNUC__ > 13\n");
    put(layout, "bin", "c++", "#!/bin/sh\necho 13 __clang__\n");
    put(layout, "bin", "sed", "#!/bin/sh\nexec /bin/sed \"$@\"\n");
    put(layout, "bin", "uname", "#!/bin/sh\nexec /bin/uname \"$@\"\n");
    assert_string_equal(find_host(layout, "old"), "c++");   /* nothing else is there */
    put(layout, "bin", "g++-13", "#!/bin/sh\n");
    put(layout, "bin", "g++-11", "#!/bin/sh\n");
    assert_string_equal(find_host(layout, "old"), "g++-11");
    put(layout, "bin", "g++-12", "#!/bin/sh\n");
    assert_string_equal(find_host(layout, "old"), "g++-12");
    assert_string_equal(find_host(layout, "new"), "c++");
    assert_string_equal(find_host(layout, "none"), "c++");
    put(layout, "bin", "c++", "#!/bin/sh\necho 4 18\n");   /* clang: its own numbers */
    assert_string_equal(find_host(layout, "old"), "c++");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nvidias_own_folder_is_found),
        TEST(debians_script_is_found_below_usr),
        TEST(a_link_leads_to_the_toolkit),
        TEST(cuda_home_comes_first),
        TEST(a_toolkit_that_is_too_old_is_passed_over_with_a_line),
        TEST(a_compiler_newer_than_the_toolkit_takes_makes_way_for_one_that_it_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
