"""Which headers of C define code."""

import pytest

from vexstream.headers import Header

LOOP = "for (int i = 0; i < n; i++) to[i] = from[i];"


def has_code(text: str, *, step: int = 1 << 20) -> bool:
    header = Header()
    for start in range(0, len(text), step):
        header.feed(text[start : start + step].encode())
    return header.has_code()


@pytest.mark.parametrize(
    "text",
    [
        f"static inline void f(char *to, int n) {{ {LOOP} }}",
        f"G_INLINE_FUNC\nvoid f(char *to, int n)\n{{ if (n) {{ {LOOP} }} }}",
        'extern "C" {\nstatic int f(struct s *s) { return s->a; }\n}',
        "static inline void f(char a[4], const char b[4]) { memcpy(a, b, 5); }",
        "template <class T> T f(T);",
        3 * "#define FIND(head, x) do { \\\n for (x = (head)->a; x; x = x->n) {} \\\n} while (0)\n",
        3 * "# define F(n) static int f_##n(int *a) { while (a[0]) a[0]--; return n; }\n",
        f"/* {{ */ static __always_inline void f(int n) {{ {LOOP}",
    ],
)
def test_code(text: str) -> None:
    assert has_code(f"#include <a.h>\n{text}\nint g(void);")


@pytest.mark.parametrize(
    "text",
    [
        "int f(char *to);\nstruct s { int (*call)(void); char a[4]; };",
        "static inline int f(int n) { return g(n & 7) << 2; }",
        f"/* static inline void f(char *to, int n) {{ {LOOP} }} */",
        f"// static void f(void) {{ {LOOP}",
        "#define F static inline void f(int n) \\\n  { n->a = 1; }\nint g(void);",
        "static const int (*table[])(void) = { f, *g };",
        2 * "# define F(n) static int f_##n(int *a) { while (a[0]) a[0]--; return n; }\n",
        4 * "#define GET(x) do { (x)->a = f((x)->b[1]); } while (0)\n",
        4 * "#define EACH(x) for (x = first(); x; x = next(x))\n",
        "#define PUT (memcpy(a, b, 4))\n#define N(x) 1\nvoid f(char a[4]); /* for */",
        "typedef enum { A, B } e; inline_t f(int *a);",
    ],
)
def test_declarations(text: str) -> None:
    assert not has_code(f"#include <a.h>\n{text}\nint g(void);")


def test_code_across_parts() -> None:
    text = f"int g(void);\nstatic inline void f(char *to, int n) {{ {LOOP} }}\n"
    assert all(has_code(text, step=step) for step in (5, 16, 40))


def test_a_hurtful_header_is_read_to_its_end() -> None:
    for text in ("static f(){" * 90_000, "/*" * 500_000, "inline " * 150_000, "{" * 99_000):
        assert not has_code(text)


@pytest.mark.parametrize("text", ["{" * 100_001, "x" * ((4 << 20) + 1)])
def test_what_is_not_read_to_its_end_may_have_code(text: str) -> None:
    assert has_code(text)
