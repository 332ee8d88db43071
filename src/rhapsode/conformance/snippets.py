"""Text of the kinds that tokenizers take apart differently: prose, code, numbers, addresses, tables."""

# ruff: noqa: RUF001 - to look alike and be different is what some of it is for

PROSE = (
    "The rhapsode sang of the wine-dark sea, and nobody in the hall spoke.",
    "It's what they'd've said, isn't it? I'm sure WE'LL see; you're right, he's not.",
    "Dr. Ö. Müller-Lüdenscheidt paid €1.234,56 (about $1,300) on 2024-02-29 at 07:05:09.",
    "“Quoted,” she wrote — ‘twice’… and then: «encore», 「再び」.",
    "naïve café façade, soupçon; Ångström, Œuvre, Straße, İstanbul, ﬁnal oﬀer",
    "WHY ARE WE SHOUTING?!?! because-of-hyphens_and_underscores/slashes\\backslashes",
    "Ceci n’est pas une pipe. ¿Qué hora es? ¡Ya! Łódź, Köln, Århus, Žilina.",
    "Chapter IV.\n\n  1) first\n  2) second\n\t- nested\n\n\n* * *\n",
    "a b  c   d    e     f      g       h        i\n",
    "No vowels: rhythm, crwth. Long: pneumonoultramicroscopicsilicovolcanoconiosis.",
)

CODE = (
    'def greet(name: str = "you") -> str:\n    """Say it."""\n    return f"hello, {name!r:>10}"\n',
    "for (int i = 0; i < n; ++i) {\n\tif (a[i] != b[i]) { return -1; }\n}\n",
    "const f = async (x) => ({ ...x, y: x?.y ?? 0 }); // TODO(name): fix #42\n",
    "SELECT id, COUNT(*) FROM t WHERE name LIKE '%_x%' GROUP BY 1 HAVING COUNT(*) > 3;\n",
    "<!doctype html>\n<p class=\"a b\" data-x='1'>3 &lt; 4 &amp;&amp; 5</p>\n<br/>\n",
    '{"key": [1, 2.5e-10, null, true], "nested": {"\\u00e9": "\\n"}}\n',
    "#!/bin/sh\nset -eu\nfind . -name '*.py' | xargs -0 grep -nE '^(a|b)+$' >/dev/null 2>&1\n",
    "fn main() -> Result<(), Box<dyn Error>> {\n    let v: Vec<u8> = vec![0xFF; 16];\n    Ok(())\n}\n",
    "\\begin{align}\n  e^{i\\pi} + 1 &= 0 \\\\\n  \\sum_{k=0}^{\\infty} x^k\n\\end{align}\n",
    "key:\n  - &anchor {a: 1}\n  - *anchor\n  - |\n    block\n      text\n",
    "@@ -1,4 +1,4 @@\n-old line\n+new line\n context\n",
    "| a | b |\n|---|--:|\n| 1 | `x|y` |\n\n```python\nprint('hi')\n```\n",
    "0x1F 0b1010 0o17 1_000_000 .5 5. 1e9 -1 +1 3.14159265358979323846 100% #fff\n",
    "https://user:pw@example.org:8080/a/b.php?q=1&r=%20#frag mailto:a.b+c@example.co.uk\n",
    "if(x==y&&z!=w||!(v>=u))x+=y<<2;else x->p=*q&~r;\n",
    "ATGCGTAC>seq1|x\nMKVLAAGIT* 2H2O -> 2H2 + O2 H₂SO₄ x² + y³ = z⁻¹\n",
)

NUMBERS = ("0", "7", "42", "123", "1234", "12345", "123456", "1234567", "12345678", "3.14", "1,000,000", "-1e-5")
NUMBERS_ELSEWHERE = ("٣٤٥", "४५६", "½¾", "①②③", "ⅣⅫ", "１２３", "𝟏𝟐𝟑", "一千二百", "x¹²³")
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", "’ll", "'ſ", "'x", "''")
PUNCTUATION = (
    "!!!",
    "...",
    "…",
    "--",
    "—",
    "—-",
    "***",
    "===",
    "###",
    "~~~",
    "//",
    "/*",
    "*/",
    "::",
    "->",
    "<=>",
    "((",
    "))",
)
WORDS = (
    "hello",
    "World",
    "HTTP",
    "camelCase",
    "snake_case",
    "x",
    "I",
    "café",
    "Москва",
    "東京",
    "سلام",
    "नमस्ते",
    "한국어",
    "ไทย",
)

COMPOSED = (
    "Ångström",
    "naïve café",
    "Việt Nam",
    "한국어",
    "ガギグ",
    "йод",
    "ñandú",
    "ﬁ ﬂ ﬀ",
    "ｆｕｌｌ ｗｉｄｔｈ",
    "ℌ𝔢𝔩𝔩𝔬",
)
"""Words that are other code points in each of Unicode's four normal forms."""
