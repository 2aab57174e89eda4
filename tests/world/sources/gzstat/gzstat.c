/* gzstat: how much gzip has saved, file by file and in all. */
#include <errno.h>
#include <popt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

static int bare;

/* Bytes that a file unpacks to; -1 with a sentence on standard error where it does not. */
static long long unpacked(const char *path)
{
    static char buffer[65536];
    long long total = 0;
    int got, why = Z_OK;
    gzFile file = gzopen(path, "rb");

    if (!file) {
        fprintf(stderr, "gzstat: %s: %s\n", path, strerror(errno));
        return -1;
    }
    while ((got = gzread(file, buffer, sizeof buffer)) > 0)
        total += got;
    if (got < 0)
        fprintf(stderr, "gzstat: %s: %s\n", path, gzerror(file, &why));
    /* A file that was cut short is only found out here. */
    if (gzclose(file) == Z_BUF_ERROR && got == 0) {
        fprintf(stderr, "gzstat: %s: ends too early\n", path);
        got = -1;
    }
    return got < 0 ? -1 : total;
}

static void line(const char *name, long long packed, long long size)
{
    if (bare)
        printf("%lld %lld %s\n", packed, size, name);
    else
        printf("%12lld -> %12lld  %5.1f %%  %s\n", size, packed, size ? 100.0 * (size - packed) / size : 0.0, name);
}

int main(int argc, const char **argv)
{
    const struct poptOption options[] = {
        {"bare", 'b', POPT_ARG_NONE, &bare, 0, "numbers only: packed, unpacked, name", NULL},
        POPT_AUTOHELP POPT_TABLEEND};
    poptContext context = poptGetContext("gzstat", argc, argv, options, 0);
    long long packed_all = 0, size_all = 0;
    int files = 0, failed = 0, status;
    const char *path;

    poptSetOtherOptionHelp(context, "FILE ...");
    if ((status = poptGetNextOpt(context)) < -1) {
        fprintf(stderr, "gzstat: %s: %s\n", poptBadOption(context, 0), poptStrerror(status));
        return 2;
    }
    while ((path = poptGetArg(context))) {
        struct stat found;
        long long size = unpacked(path);
        if (size < 0 || stat(path, &found)) {
            failed = 1;
            continue;
        }
        line(path, found.st_size, size);
        packed_all += found.st_size;
        size_all += size;
        files++;
    }
    if (files > 1)
        line("all", packed_all, size_all);
    poptFreeContext(context);
    return failed;
}
