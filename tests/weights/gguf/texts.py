"""Texts that tokenizers have been seen to disagree about."""

import random

LINES = (
    *("", " ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\n\n\n\n", " \n \n", "\r\n", "\r\n\r\n", "\x0b\x0c"),
    *("a  b", "a   b    c", " a", "  a", "a ", "a  ", "\ta\t\tb", "hello world", " x" * 40, " " * 70, "\n" * 70),
    *("Hello, World!", "I've been 'told he's there, 'RE you sure?", "we'LL don'T CAN'T", "''''''''", "ab" * 40),
    *("3 33 333 3333 33333 3.14 1,000,000", "½ ² Ⅳ ٣٤٥ १२३ 一二三", "x" * 300, "aba" * 30, "-" * 33 + "=" * 33),
    *("👩‍👩‍👧‍👦👨🏿‍🚀🏳️‍🌈", "🚀 (normal) 😶‍🌫️", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢", "\u0300\u0301", "a\u0300\u0301\u0302"),
    *("\x00\x01\x02\x7f", "\u200b\u200d\ufeff\u202e", "\u0085 \u2028\u2029 \u3000 \u00a0", "\U0010ffff\ue000"),
    *("def f(x):\n    return x**2  # squared\n\n\nclass A:\n\tpass\n", '{"a": [1, 2, {"b": null}]}', "a_b-c/d\\e"),
    *('for(int i=0;i<10;++i){\n  printf("%d\\n", i);\n}', "https://example.com/a?b=c&d=%20e#f", "e\u0301 é n\u0303 ñ"),
    *("the quick brown fox jumps over a lazy dog", "Съешь же ещё этих мягких французских булок"),
    *("Ξεσκεπάζω την ψυχοφθόρα βδελυγμία", "نص حكيم له سر قاطع وذو شأن عظيم", "דג סקרן שט בים מאוכזב"),
    *("ऋषियों को सताने वाले", "আমি বাংলায় গান গাই", "யாமறிந்த மொழிகளிலே", "ఆంధ్రప్రదేశ్ రాష్ట్రం", "เป็นมนุษย์สุดประเสริฐ"),
    *(
        "កាន់តែពិសេសអាច",
        "ຂ້ອຍກິນແກ້ວໄດ້",
        "გთხოვთ ახლავე",
        "Կրնամ ապակի ուտել",
        "我想在apple工作1314151天",
        "いろはにほへと カタカナ",
    ),
    *("다람쥐 헌 쳇바퀴에", "ሰማይ አይታረስ", "ကျွန်တော်", "ཤེལ་སྒོ་ཟ་ནས", "ᠪᠢ ᠰᠢᠯᠢ", "ᏣᎳᎩ", "𐌼𐌰𐌲", "ᛖᚴ ᚷᛖᛏ", "𝔹𝕠𝕝𝕕 ∀x∈ℝ"),
    *("<s>", "</s>x", "<unk>", "<bos>", "<eos>", "<pad>", "<0x0A>", "<0x41>", "<start_of_turn>user\nhi<end_of_turn>"),
    *("<|im_start|>system", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>", "[INST] hi [/INST]", "<table><tr><td>"),
)


def texts(count: int, *, seed: int = 0) -> list[str]:
    """`LINES`, and `count` jumbles of their letters and words."""
    draw = random.Random(seed)
    letters = "".join(LINES)
    words = [word for line in LINES for word in line.split(" ")]
    jumbles = ["".join(draw.choices(letters, k=draw.randint(1, 40))) for _ in range(count // 2)]
    sentences = [
        draw.choice((" ", "  ", "", "\n")).join(draw.choices(words, k=draw.randint(2, 12))) for _ in range(count // 2)
    ]
    return [*LINES, *jumbles, *sentences]
