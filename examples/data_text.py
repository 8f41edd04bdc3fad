"""
Text
====

Which data set is a sentence about? The texts are the descriptions that scikit-learn brings with its
data sets. TF-IDF makes one column per word, thousands of them, nearly all zero in a sentence; the
matrix stays sparse all the way, and so does the arithmetic of the first layer.
"""

import warnings
from importlib.resources import files

import matplotlib.pyplot as plt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fastnn import MLPClassifier

texts, labels = [], []
for path in sorted(files("sklearn.datasets.descr").iterdir(), key=lambda path: path.name):
    if path.name.endswith(".rst"):
        sentences = path.read_text("utf-8").replace("\n", " ").split(". ")
        texts += [s for s in sentences if len(s) > 40]
        labels += [path.name.removesuffix(".rst")] * sum(len(s) > 40 for s in sentences)
few = {name for name in labels if labels.count(name) < 10}
texts = [text for text, name in zip(texts, labels, strict=True) if name not in few]
labels = [name for name in labels if name not in few]
train, test, y_train, y_test = train_test_split(
    texts, labels, test_size=0.3, stratify=labels, random_state=0
)

# %%
# In float32 and with dropout on the hidden layer; labels may be texts.

models = {
    "network": MLPClassifier(
        32, dropout=0.3, learning_rate_init=0.01, max_iter=40, tol=0, dtype="float32",
        n_iter_no_change=40, random_state=0,
    ),
    "logistic regression": LogisticRegression(C=30, max_iter=500),
}  # fmt: skip
for name, model in models.items():
    pipe = make_pipeline(TfidfVectorizer(sublinear_tf=True), model)
    models[name] = pipe
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all forty epochs were wanted
        score = pipe.fit(train, y_train).score(test, y_test)
    print(f"{name:20} {score:.2f} right, {len(test)} sentences, {len(pipe[0].vocabulary_)} words")
print(f"always the commonest {max(map(y_test.count, y_test)) / len(y_test):.2f}")

ConfusionMatrixDisplay.from_estimator(
    models["network"], test, y_test, xticks_rotation="vertical", colorbar=False
)
plt.tight_layout()
plt.show()
