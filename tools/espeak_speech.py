"""Speech by espeak-ng with its phonemes and their times: many languages, voices and made-up words, all by one seed.

espeak-ng is no dependency of avatarfit: only the training of the speech encoder needs it (Debian: `apt-get install
espeak-ng libespeak-ng1`). It is called through its C interface (speak_lib.h), which tells when each phoneme begins.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avatarfit.contracts import InputError
from avatarfit.pipeline.espeak_words import Callback

_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA = 2, 1, 2
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8, _PHONEMES = 1, 0x100
_TEXT_IPA = 2
_LIST_END, _PHONEME = 0, 7

_LATIN = (
    "mama papa bobby maple pump bamboo family move five favor water window sofa table radio music problem important "
    "number member november lumber bubble simple example camera chocolate energy universe television super momentum",
    "The map above my bed shows many small rivers. Please put the blue cup back, but move the big bowl first.",
    "Meine Mutter bringt am Abend immer bunte Blumen mit. Fünf Vögel fliegen über das Feld, bevor der Wind kommt.",
    "Mon ami préfère une petite pomme verte. Vous voulez bien me montrer le beau bateau bleu de votre père ?",
    "Mi abuela compra pan, manzanas y un poco de vino. El pueblo está muy bonito por la mañana.",
    "La mamma prepara una buona pappa. Vorrei vedere il mare, ma piove sempre sopra il ponte.",
    "O menino bebe água fresca pela manhã. Vamos embora, porque o mapa ficou em cima da mesa.",
    "Babam bu sabah pembe bir bisiklet buldu. Mavi vapur limana geldi, martılar uçuyor.",
    "Moja mama ma pięć małych białych psów. Proszę, powiedz mi, gdzie jest ten wielki most.",
    "De man en zijn moeder bouwen samen een groot huis bij het water. Wil je nog wat appelmoes?",
)
_CYRILLIC = (
    "Мама мыла раму, папа пил воду. Бабушка пообещала внуку большой белый пароход. Пять обезьян ели вкусные бананы.",
    "Этот поезд всегда приходит вовремя. Мы будем вместе смотреть фильм, потом выпьем чаю.",
)
_DEVANAGARI = ("माँ ने बाबा को फल और पानी दिया। मेरा भाई बाज़ार में मिठाई बेचता है। बारिश के बाद मौसम बहुत अच्छा हो गया।",)
_ARABIC = ("بابا يشرب الماء في البيت. أمي تحب الموز والبرتقال. ذهب الولد إلى المدرسة صباح اليوم.",)
_TEXTS: dict[str, Sequence[str]] = {
    **dict.fromkeys(("ru", "bg", "uk", "mk", "sr", "be", "kk", "ky", "tt", "ba"), _CYRILLIC),
    **dict.fromkeys(("hi", "mr", "ne", "kok"), _DEVANAGARI),
    **dict.fromkeys(("ar", "fa", "ur", "sd", "ug"), _ARABIC),
    "cmn": ("妈妈买了八个苹果。爸爸不怕冒风。我们明天坐飞机去北京，朋友们都很高兴。他把书放在门旁边的白色木板上。",),
    "ja": ("まま は ぱん と みかん を かいました。ぼく の ぼうし は あかい です。ふゆ の うみ は とても さむい。",),
    "ko": ("엄마는 밥을 먹고 아빠는 물을 마십니다. 비가 와서 우리는 버스를 탔어요. 푸른 바다가 보입니다.",),
    "el": ("Η μαμά μου μαγειρεύει φασολάδα. Ο μπαμπάς πίνει πολύ καφέ. Βλέπω ένα μεγάλο βουνό.",),
    "ka": ("დედა ამზადებს საჭმელს, მამა ბაღში მუშაობს. პატარა ბიჭი ბურთს ათამაშებს.",),
    "bn": ("মা আমাকে ফল আর পানি দিলেন। বাবা বাজারে মাছ কিনতে গেলেন।",),
    "ta": ("அம்மா பழம் வாங்கினார். அப்பா மரத்தின் அருகில் பாட்டு பாடுகிறார்.",),
    "he": ("אבא שותה מים ואמא אוכלת תפוח. הילד משחק בכדור בפארק.",),
    "th": ("แม่ซื้อผลไม้ที่ตลาด พ่อดื่มน้ำแล้วไปทำงาน",),
}
LANGUAGES = (
    "en-us", "en", "en-gb-scotland", "fr", "es", "es-419", "pt", "pt-br", "pl", "nl", "sv", "da", "nb", "fi",
    "hu", "cs", "sk", "sl", "hr", "ro", "sq", "lt", "lv", "et", "ca", "eu", "ga", "cy", "id", "ms", "sw", "vi", "eo",
    "ru", "bg", "uk", "mk", "sr", "hi", "mr", "ne", "ar", "fa", "ur", "ja", "ko", "el", "ka", "bn", "ta", "th", "yue",
)  # fmt: skip
HELD_OUT_LANGUAGES = ("de", "it", "tr", "cmn")
VARIANTS = (
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Lee", "Marco", "Mario",
    "Michael", "Mike", "Nguyen", "RicishayMax", "adam", "anika", "announcer", "antonio", "aunty", "belinda", "boris",
    "caleb", "croak", "david", "ed", "edward", "f1", "f3", "f4", "f5", "grandma", "grandpa", "gustave", "iven", "john",
    "kaukovalta", "klatt", "klatt3", "klatt4", "klatt6", "linda", "m1", "m2", "m4", "m5", "m6", "m7", "marcelo", "max",
    "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "sandro", "shelby", "steph2", "travis", "victor",
    "whisper", "zac",
)  # fmt: skip
HELD_OUT_VARIANTS = ("f2", "m3", "m8", "klatt2", "steph", "benjamin", "robert", "michel")
VOWELS = frozenset("aɑæɐʌäəɜɚɝɘɛɤeiɪɨɯuʊyʏʉoɵøɔɒœɶ")


@dataclass(frozen=True)
class Spoken:
    """One utterance.

    Attributes:
        samples: float32 [n] in -1..1 at `rate_hz`.
        rate_hz: 22050, as espeak-ng makes it.
        phonemes: (first sample, IPA) of each phoneme, "" for a pause, rising.
    """

    samples: np.ndarray
    rate_hz: int
    phonemes: list[tuple[int, str]]


class Espeak:
    """The library, loaded once.

    Raises:
        InputError: libespeak-ng is not installed.
    """

    def __init__(self) -> None:
        path = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise InputError(
                f"espeak-ng is not installed ({error})", "libespeak-ng, whose speech the encoder learns from",
                "install it (Debian: apt-get install espeak-ng libespeak-ng1)",
            ) from error  # fmt: skip
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.rate_hz: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _PHONEME_IPA)
        if self.rate_hz <= 0:
            raise InputError("espeak-ng does not start", "its data files", "install espeak-ng with its data")
        self._samples: list[np.ndarray] = []
        self._phonemes: list[tuple[int, str]] = []
        self._callback = Callback(self._take)
        self._library.espeak_SetSynthCallback(self._callback)
        self._inventories: dict[str, tuple[list[str], list[str]]] = {}
        self.version = ctypes.cast(self._info(), ctypes.c_char_p).value or b"?"

    def _info(self) -> int:
        self._library.espeak_Info.restype = ctypes.c_void_p
        return int(self._library.espeak_Info(None))

    def _take(self, wave: ctypes._Pointer, count: int, events: ctypes._Pointer) -> int:
        if wave and count:
            self._samples.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type != _LIST_END:
            if events[index].type == _PHONEME:
                text = ctypes.string_at(ctypes.addressof(events[index].id), 8).split(b"\0")[0]
                self._phonemes.append((events[index].sample, text.decode("utf-8", "ignore")))
            index += 1
        return 0

    def say(self, text: str, voice: str, words_per_minute: int, pitch: int, pitch_range: int) -> Spoken:
        """`text` (phoneme names in [[ ]] are taken as such) by `voice`, such as "de+f2".

        Raises:
            ValueError: espeak-ng has no such voice.
        """
        self._voice(voice)
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._samples, self._phonemes = [np.zeros(0, np.int16)], []
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, _UTF8 | _PHONEMES, None, None)
        samples = (np.concatenate(self._samples) / 32768).astype(np.float32)
        return Spoken(samples, self.rate_hz, sorted(self._phonemes, key=lambda p: p[0]))

    def _voice(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")

    def phoneme_names(self, text: str, voice: str, mode: int = 0) -> list[str]:
        """espeak's own names of the phonemes of `text` (mode 2: IPA), without stress."""
        self._voice(voice)
        data = ctypes.c_char_p(text.encode())
        pointer = ctypes.pointer(data)
        out = []
        while data.value is not None:
            got = self._library.espeak_TextToPhonemes(pointer, _UTF8, mode | ord("|") << 8)
            out += [p.strip("ˈˌ',%=") for p in (got or b"").decode("utf-8", "ignore").replace(" ", "|").split("|")]
        return [p for p in out if p]

    def inventory(self, language: str) -> tuple[list[str], list[str]]:
        """espeak's names of the consonants and the vowels that `language` reads in its texts and numbers."""
        if language not in self._inventories:
            found: dict[str, bool] = {}
            text = " ".join(texts(language)) + " 1 2 3 4 5 6 7 8 9 10 11 12 20 30 100 1000 1000000"
            for word in text.split():
                names, sounds = self.phoneme_names(word, language), self.phoneme_names(word, language, _TEXT_IPA)
                if len(names) == len(sounds):
                    found |= {n: s[0] in VOWELS for n, s in zip(names, sounds, strict=True) if "(" not in n}
            kinds = [sorted(n for n, vowel in found.items() if vowel is kind) for kind in (False, True)]
            self._inventories[language] = (kinds[0], kinds[1])
        return self._inventories[language]


def texts(language: str) -> Sequence[str]:
    """Sentences in the language's own script; Latin ones of any language, read by its rules."""
    return _TEXTS.get("cmn" if language == "yue" else language, _LATIN)


def made_up_text(espeak: Espeak, language: str, random: np.random.Generator) -> str:
    """Numbers, dates, words of the texts or words that do not exist, about five seconds long."""
    kind = random.choice(4, p=(0.2, 0.1, 0.35, 0.35))
    if kind == 0:
        return ", ".join(str(int(10 ** random.uniform(0, 6))) for _ in range(4))
    if kind == 1:
        return ", ".join(
            f"{random.integers(1, 29)}.{random.integers(1, 13)}.{random.integers(1900, 2030)}" for _ in range(2)
        )
    if kind == 2:
        text = list(random.permutation(str(random.choice(list(texts(language)))).split()))
        whole = texts(language)[int(random.integers(len(texts(language))))]
        return whole if random.random() < 0.4 else " ".join(map(str, text[: int(random.integers(6, 14))]))
    consonants, vowels = espeak.inventory(language)
    if not consonants or not vowels:
        return str(texts(language)[0])
    words = []
    for _ in range(int(random.integers(5, 10))):
        word = ""
        for syllable in range(int(random.integers(1, 4))):
            word += "'" if syllable == 0 else ""
            word += str(random.choice(consonants)) if random.random() < 0.9 else ""
            word += str(random.choice(vowels))
            word += str(random.choice(consonants)) if random.random() < 0.35 else ""
        words.append(word)
    return "[[" + " ".join(words) + "]]"
