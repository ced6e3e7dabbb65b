/* SPDX-License-Identifier: Apache-2.0 */
/* C: threads with a pool of work, a hash table, files, qsort, locale, floating point, dates. */
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { kWork = 2000, kThreads = 8 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int next_work;
static long results[kWork];

static long collatz(long number) {
  long steps = 0;
  for (; number != 1; steps++) number = number % 2 == 0 ? number / 2 : 3 * number + 1;
  return steps;
}

static void* work(void* unused) {
  for (;;) {
    pthread_mutex_lock(&mutex);
    const int mine = next_work < kWork ? next_work++ : -1;
    pthread_mutex_unlock(&mutex);
    if (mine < 0) return unused;
    results[mine] = collatz(mine + 1);
  }
}

static int descending(const void* one, const void* two) {
  const long a = *(const long*)one, b = *(const long*)two;
  return a < b ? 1 : a > b ? -1 : 0;
}

static void write_and_read(const char* folder) {
  char name[512], line[64];
  struct stat status;
  snprintf(name, sizeof name, "%s/from_c.txt", folder);
  FILE* file = fopen(name, "w");
  if (file == NULL) {
    perror("fopen");
    return;
  }
  for (int i = 0; i < 500; i++) fprintf(file, "%d %.6f\n", i, sqrt(i));
  fclose(file);
  file = fopen(name, "r");
  double sum = 0, value;
  for (int number; fgets(line, sizeof line, file) != NULL;)
    if (sscanf(line, "%d %lf", &number, &value) == 2) sum += value;
  fclose(file);
  stat(name, &status);
  printf("file: %.4f in %lld bytes\n", sum, (long long)status.st_size);
}

int main(int argc, char** argv) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) pthread_create(&threads[i], NULL, work, NULL);
  for (int i = 0; i < kThreads; i++) pthread_join(threads[i], NULL);
  qsort(results, kWork, sizeof results[0], descending);
  printf("longest: %ld %ld %ld\n", results[0], results[1], results[2]);
  write_and_read(argc > 1 ? argv[1] : "/tmp");
  struct tm date = {.tm_year = 124, .tm_mon = 1, .tm_mday = 29 + 1, .tm_hour = 12};
  const time_t then = timegm(&date);
  char text[64];
  strftime(text, sizeof text, "%A %d %B %Y, day %j", gmtime(&then));
  printf("%s, locale %s\n", text, setlocale(LC_ALL, "C"));
  printf("%a %g %.3e %s\n", 1.0 / 3, tgamma(5.5), pow(2, 100), strerror(2));
  char* end;
  const long number = strtol("123rest", &end, 10);
  printf("%ld %s\n", number, end);
  return 3;
}
