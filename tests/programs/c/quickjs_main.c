/* A command line for QuickJS: runs a script file, or with -e its argument.
 *
 * Scripts get `print(...)`, `readAll()` (all of stdin as a string), `readFile(path)`, and `scriptArgs`. An exception
 * that nobody catches is printed to stderr, with exit code 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quickjs.h"

static JSValue print(JSContext *context, JSValueConst this, int count, JSValueConst *values) {
    (void)this;
    for (int i = 0; i < count; i++) {
        const char *text = JS_ToCString(context, values[i]);
        if (text == NULL)
            return JS_EXCEPTION;
        printf("%s%s", i > 0 ? " " : "", text);
        JS_FreeCString(context, text);
    }
    printf("\n");
    return JS_UNDEFINED;
}

/* The caller frees what it gets, if that is not NULL. */
static char *contents(FILE *file, size_t *length) {
    char *text = NULL;
    size_t size = 0;
    *length = 0;
    if (file == NULL)
        return NULL;
    do {
        if (size - *length < 4096 && (text = realloc(text, size = size * 2 + 8192)) == NULL)
            return NULL;
        *length += fread(text + *length, 1, size - *length - 1, file);
    } while (!feof(file) && !ferror(file));
    text[*length] = '\0';
    return text;
}

static JSValue to_string(JSContext *context, char *text, size_t length, const char *what) {
    if (text == NULL)
        return JS_ThrowReferenceError(context, "cannot read %s", what);
    JSValue value = JS_NewStringLen(context, text, length);
    free(text);
    return value;
}

static JSValue read_all(JSContext *context, JSValueConst this, int count, JSValueConst *values) {
    (void)this, (void)count, (void)values;
    size_t length;
    char *text = contents(stdin, &length);
    return to_string(context, text, length, "stdin");
}

static JSValue read_file(JSContext *context, JSValueConst this, int count, JSValueConst *values) {
    (void)this;
    const char *path = count > 0 ? JS_ToCString(context, values[0]) : NULL;
    if (path == NULL)
        return JS_EXCEPTION;
    FILE *file = fopen(path, "rb");
    size_t length = 0;
    char *text = contents(file, &length);
    if (file != NULL)
        fclose(file);
    JSValue value = to_string(context, text, length, path);
    JS_FreeCString(context, path);
    return value;
}

static int complain(JSContext *context) {
    JSValue error = JS_GetException(context);
    const char *text = JS_ToCString(context, error);
    fprintf(stderr, "%s\n", text != NULL ? text : "exception");
    JS_FreeCString(context, text);
    JS_FreeValue(context, error);
    return 1;
}

static int run(JSContext *context, const char *source, size_t length, const char *name) {
    JSValue result = JS_Eval(context, source, length, name, JS_EVAL_TYPE_GLOBAL);
    int code = JS_IsException(result) ? complain(context) : 0;
    JS_FreeValue(context, result);
    JSContext *other;
    int jobs;
    while (code == 0 && (jobs = JS_ExecutePendingJob(JS_GetRuntime(context), &other)) != 0)
        if (jobs < 0)
            code = complain(other);
    return code;
}

int main(int argc, char *argv[]) {
    if (argc < 2 || (strcmp(argv[1], "-e") == 0 && argc < 3)) {
        fprintf(stderr, "usage: quickjs FILE [ARG...] or quickjs -e SOURCE [ARG...]\n");
        return 2;
    }
    JSRuntime *runtime = JS_NewRuntime();
    JSContext *context = JS_NewContext(runtime);
    JSValue global = JS_GetGlobalObject(context), arguments = JS_NewArray(context);
    JS_SetPropertyStr(context, global, "print", JS_NewCFunction(context, print, "print", 1));
    JS_SetPropertyStr(context, global, "readAll", JS_NewCFunction(context, read_all, "readAll", 0));
    JS_SetPropertyStr(context, global, "readFile", JS_NewCFunction(context, read_file, "readFile", 1));

    int inline_source = strcmp(argv[1], "-e") == 0, first = inline_source ? 3 : 2;
    for (int i = first; i < argc; i++)
        JS_SetPropertyUint32(context, arguments, (uint32_t)(i - first), JS_NewString(context, argv[i]));
    JS_SetPropertyStr(context, global, "scriptArgs", arguments);

    int code;
    if (inline_source) {
        code = run(context, argv[2], strlen(argv[2]), "<argument>");
    } else {
        FILE *file = fopen(argv[1], "rb");
        size_t length = 0;
        char *source = contents(file, &length);
        if (source == NULL) {
            fprintf(stderr, "cannot read %s\n", argv[1]);
            code = 2;
        } else {
            code = run(context, source, length, argv[1]);
        }
        free(source);
        if (file != NULL)
            fclose(file);
    }
    JS_FreeValue(context, global);
    JS_FreeContext(context);
    JS_FreeRuntime(runtime);
    return code;
}
