"""Titles: words that name the category, hint at the latent taste, promise, or mean nothing."""

from __future__ import annotations

import numpy as np

POLES: tuple[tuple[str, str], ...] = (
    ("modern sleek urban minimal digital", "rustic vintage antique farmhouse retro"),
    ("vivid neon rainbow painted floral", "plain grey muted monochrome beige"),
    ("light airy slim feather pocket", "heavy sturdy solid rugged iron"),
    ("outdoor trail alpine camping river", "indoor cosy fireside lounge bedside"),
    ("quiet calm gentle zen slow", "loud turbo racing extreme party"),
    ("handmade wool linen wooden clay", "carbon titanium nylon polymer chrome"),
    ("family kids playful junior cartoon", "office executive formal business desk"),
    ("sweet vanilla honey berry caramel", "spicy smoky pepper ginger bitter"),
    ("winter nordic snow fleece arctic", "summer tropical beach sunny coral"),
    ("expert studio precision technical pro-grade", "starter simple easy beginner basic"),
)
"""Two lexicons per latent dimension: for items far up, and far down."""
TASTE_DIMENSIONS = len(POLES)
LEXICON = np.array([[pole.split() for pole in pair] for pair in POLES])  # [D, 2, 5]

CATEGORIES: tuple[tuple[str, str], ...] = (
    ("audio", "headphones speaker earbuds"),
    ("bags", "backpack tote suitcase"),
    ("beauty", "cream serum shampoo"),
    ("bikes", "bicycle helmet saddle"),
    ("books", "novel atlas cookbook"),
    ("cameras", "camera tripod lens"),
    ("coffee", "espresso grinder beans"),
    ("fitness", "dumbbell mat kettlebell"),
    ("furniture", "chair shelf table"),
    ("games", "puzzle boardgame cards"),
    ("garden", "planter shears hose"),
    ("instruments", "guitar ukulele keyboard"),
    ("kitchen", "pan kettle knife"),
    ("lighting", "lamp lantern candle"),
    ("pets", "leash bowl scratcher"),
    ("shoes", "sneakers boots sandals"),
    ("snacks", "biscuits crisps nuts"),
    ("sportswear", "jersey shorts jacket"),
    ("stationery", "notebook pen planner"),
    ("tools", "drill hammer wrench"),
)
HYPE = np.array(
    [
        "ultimate",
        "miracle",
        "bestseller",
        "revolutionary",
        "viral",
        "legendary",
        "deluxe",
        "amazing",
    ]
)
NOISE = np.array(
    [
        "set",
        "new",
        "two",
        "classic",
        "original",
        "series",
        "item",
        "pack",
        "edition",
        "plus",
        "one",
        "mark",
    ]
)


def category_name(category: int) -> str:
    """Return the name of a category; beyond the list, its number is added."""
    round_, row = divmod(category, len(CATEGORIES))
    return CATEGORIES[row][0] + (f" {round_ + 1}" if round_ else "")


def titles(
    rng: np.random.Generator, *, category: np.ndarray, taste: np.ndarray, hype: np.ndarray
) -> list[str]:
    """Return [items] titles of three to six words.

    `category` [items] int, `taste` [items, D] float and `hype` [items] float are the item's own:
    two or three words come from the lexicons of its strongest dimensions (mostly), then the
    category's noun, a word of hype where much is promised, and sometimes one that means nothing.
    """
    items = len(category)
    # The strongest dimensions after noise: the same item may be described in several ways.
    strength = np.abs(taste) + rng.gumbel(scale=0.12, size=taste.shape)
    dimension = np.argsort(-strength, axis=1, kind="stable")[:, :3]  # [items, 3]
    down = (np.take_along_axis(taste, dimension, axis=1) < 0).astype(int)
    describing = LEXICON[dimension, down, rng.integers(LEXICON.shape[2], size=dimension.shape)]
    third, hyped = rng.random(items) < 0.5, hype + rng.normal(scale=0.4, size=items) > 0.6
    filler = rng.random(items) < 0.5
    hype_word, filler_word = rng.choice(HYPE, items), rng.choice(NOISE, items)
    noun = rng.integers(3, size=items)
    made: list[str] = []
    for row in range(items):
        words = [*describing[row, : 3 if third[row] else 2]]
        words.append(CATEGORIES[category[row] % len(CATEGORIES)][1].split()[noun[row]])
        if hyped[row]:
            words.insert(0, hype_word[row])
        if filler[row]:
            words.append(filler_word[row])
        made.append(" ".join(words))
    return made
