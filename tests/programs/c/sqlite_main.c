/* A command line for SQLite: runs the SQL on stdin against the database file that the argument names.
 *
 * Each row is printed in a line, its columns joined by '|'. An error is printed too, with exit code 1.
 */
#include <stdio.h>

#include "sqlite3.h"

static int print_row(void *nothing, int count, char **values, char **names) {
    (void)nothing, (void)names;
    for (int i = 0; i < count; i++)
        printf("%s%s", i > 0 ? "|" : "", values[i] != NULL ? values[i] : "NULL");
    printf("\n");
    return 0;
}

int main(int argc, char *argv[]) {
    static char sql[1 << 16];
    sqlite3 *database;
    char *error = NULL;
    sql[fread(sql, 1, sizeof sql - 1, stdin)] = '\0';
    if (sqlite3_open(argc > 1 ? argv[1] : ":memory:", &database) != SQLITE_OK) {
        printf("cannot open %s: %s\n", argv[1], sqlite3_errmsg(database));
        return 1;
    }
    int code = 0;
    if (sqlite3_exec(database, sql, print_row, NULL, &error) != SQLITE_OK) {
        printf("error: %s\n", error);
        code = 1;
    }
    sqlite3_free(error);
    sqlite3_close(database);
    return code;
}
