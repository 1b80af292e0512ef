"""Small files in exactly the layouts of published files: header, separators, quotes, times, zeros.

The values are made up; the form of a line is the publisher's.
"""

from __future__ import annotations

import gzip
import json
import pickle
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

START = 1_396_000_000  # 28 March 2014, in seconds


def clicks(num_sessions: int = 60, num_items: int = 40) -> pd.DataFrame:
    """Clicks ordered by time: session, user, item, time in seconds, position in the session.

    Users have several sessions, hours apart; within a session, clicks are seconds to minutes apart.
    """
    random = np.random.default_rng(0)
    lengths = random.integers(2, 9, num_sessions)
    session = np.repeat(np.arange(num_sessions), lengths)
    position = np.arange(len(session)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    pause = random.integers(5, 600, len(session)) * (position > 0)
    within = np.cumsum(pause) - np.repeat(np.cumsum(pause)[position == 0], lengths)
    frame = pd.DataFrame(
        {
            "session": session,
            "user": session % (num_sessions // 3),
            "item": random.zipf(1.4, len(session)) % num_items,
            "time": START + 20_000 * session + within,
            "position": position,
        }
    )
    return frame.sort_values("time", kind="stable", ignore_index=True)


def _lines(
    path: Path,
    form: Callable[[Any], str],
    header: str = "",
    *,
    end: str = "\n",
    encoding: str = "utf-8",
) -> Path:
    text = "".join(line + end for line in [*([header] if header else []), *_rows(clicks(), form)])
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def _rows(frame: pd.DataFrame, form: Callable[[Any], str]) -> Iterable[str]:
    return (form(row) for row in frame.itertuples(index=False))


def _at(seconds: int, form: str) -> str:
    return pd.Timestamp(seconds, unit="s", tz="UTC").strftime(form)


def _histories() -> pd.DataFrame:
    """One row per session: user, its items, its times."""
    grouped = clicks().groupby("session", sort=False)
    return grouped.agg(user=("user", "first"), items=("item", list), times=("time", list))


def yoochoose(folder: Path) -> Path:
    return _lines(
        folder / "yoochoose-clicks.dat",
        lambda r: (
            f"{r.session},{_at(r.time, '%Y-%m-%dT%H:%M:%S')}.{r.item:03}Z,21{r.item:07},"
            f"{'S' if r.item % 3 == 0 else r.item % 12}"
        ),
    )


def rsc15(folder: Path) -> Path:
    return _lines(
        folder / "rsc15_train_tr.txt",
        lambda r: f"{r.session}\t2145{r.item:05}\t{r.time}.{r.item:03}",
        "SessionId\tItemId\tTime",
    )


def _diginetica(path: Path, header: str) -> Path:
    return _lines(
        path,
        lambda r: (
            f"{r.session};{r.user if r.user % 4 == 0 else 'NA'};{r.item};{1000 * (r.time - START)};"
            f"{_at(START + 20_000 * r.session, '%Y-%m-%d')}"
        ),
        header,
    )


def diginetica_snake(folder: Path) -> Path:
    return _diginetica(
        folder / "train-item-views.csv", "session_id;user_id;item_id;timeframe;eventdate"
    )


def diginetica_camel(folder: Path) -> Path:
    return _diginetica(
        folder / "train-item-views.csv", "sessionId;userId;itemId;timeframe;eventdate"
    )


def pickled_sessions(folder: Path) -> Path:
    path = folder / "all_train_seq.txt"
    path.write_bytes(pickle.dumps(_histories()["items"].tolist(), 2))
    return path


def _pickled_samples(path: Path, step: int) -> Path:
    samples = [
        (items[:end], items[end])
        for items in _histories()["items"]
        for end in range(1, len(items))[::step]
    ]
    path.write_bytes(pickle.dumps(tuple(map(list, zip(*samples, strict=True))), 2))
    return path


def pickled_longest_first(folder: Path) -> Path:
    return _pickled_samples(folder / "test.txt", -1)


def pickled_shortest_first(folder: Path) -> Path:
    return _pickled_samples(folder / "test.txt", 1)


def _joined(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    text = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def session_lines(folder: Path) -> Path:
    return _joined(folder / "train_sessions.txt.gz", _histories()["items"])


def user_lines(folder: Path) -> Path:
    users = clicks().groupby("user", sort=False)["item"].agg(list)
    return _joined(folder / "Beauty.txt.gz", ([user, *items] for user, items in users.items()))


def pairs(folder: Path) -> Path:
    return _joined(folder / "ml-1m.txt", zip(clicks()["user"], clicks()["item"], strict=True))


def tmall(folder: Path) -> Path:
    return _lines(
        folder / "user_log_format1.csv",
        lambda r: f"{r.user},{r.item},{r.item % 7},{r.item % 5},,{_at(r.time, '%m%d')},0",
        "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type",
    )


def tmall_province(folder: Path) -> Path:
    return _lines(
        folder / "tmall.csv",
        lambda r: (
            f"{r.user},{r.item},{r.item % 7},{r.item % 5},{r.item % 3},"
            f"{_at(r.time, '%m,%d').lstrip('0')},2,{r.user % 9},{r.user % 3},浙江"
        ),
        "user_id,item_id,cat_id,merchant_id,brand_id,month,day,action,age_range,gender,province",
    )


def retailrocket(folder: Path) -> Path:
    return _lines(
        folder / "events.csv",
        lambda r: f"{1000 * r.time + r.item},{r.user},view,{r.item},",
        "timestamp,visitorid,event,itemid,transactionid",
    )


def taobao(folder: Path) -> Path:
    return _lines(
        folder / "UserBehavior.csv",
        lambda r: f"{r.user},{r.item},{r.item % 7},{'pv' if r.item % 5 else 'buy'},{r.time}",
    )


def amazon_reviews(folder: Path) -> Path:
    return _lines(
        folder / "reviews_Beauty_5.json.gz",
        lambda r: json.dumps(
            {
                "reviewerID": f"A1YJEY40YUW4SE{r.user}",
                "asin": f"{7806397051 + r.item if r.item % 2 else r.item:010}",
                "reviewerName": 'Andrea "A"',
                "helpful": [3, 4],
                "reviewText": "Very oily,\nand creamy.",
                "overall": 1.0,
                "unixReviewTime": r.time,
                "reviewTime": _at(r.time, "%m %d, %Y"),
            }
        ),
    )


def amazon_ratings(folder: Path) -> Path:
    return _lines(
        folder / "ratings_Beauty.csv",
        lambda r: f"A39HTATAQ9V7Y{r.user},{205616461 + r.item:010},5.0,{r.time}",
    )


def amazon_2023(folder: Path) -> Path:
    history: dict[int, list[str]] = {}

    def line(r: Any) -> str:
        before = history.setdefault(r.user, [])
        asin = f"B00{r.item:07}"
        text = f"AE2{r.user:024},{asin},5.0,{1000 * r.time},{' '.join(before)}"
        before.append(asin)
        return text

    return _lines(
        folder / "All_Beauty.train.csv", line, "user_id,parent_asin,rating,timestamp,history"
    )


def movielens_100k(folder: Path) -> Path:
    return _lines(folder / "u.data", lambda r: f"{r.user}\t{r.item}\t{r.item % 5 + 1}\t{r.time}")


def movielens_1m(folder: Path) -> Path:
    return _lines(
        folder / "ratings.dat", lambda r: f"{r.user}::{r.item}::{r.item % 5 + 1}::{r.time}"
    )


def movielens_20m(folder: Path) -> Path:
    return _lines(
        folder / "ratings.csv",
        lambda r: f"{r.user},{r.item},{r.item % 5 + 0.5},{r.time}",
        "userId,movieId,rating,timestamp",
        end="\r\n",
    )


def recbole_inter(folder: Path) -> Path:
    return _lines(
        folder / "ml-100k.inter",
        lambda r: f"{r.user}\t{r.item}\t{r.item % 5}\t{r.time}",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
    )


def recbole_benchmark(folder: Path) -> Path:
    header = "session_id:token\titem_id_list:token_seq\titem_id:token\n"
    rows = [
        f"{{}}\t{' '.join(map(str, items[:end]))}\t{items[end]}\n"
        for items in _histories()["items"]
        for end in range(len(items) - 1, 0, -1)
    ]
    cuts = {"train": (0, 150), "valid": (150, 180), "test": (180, len(rows))}
    for part, (start, stop) in cuts.items():
        numbered = (row.format(number) for number, row in enumerate(rows[start:stop], start))
        (folder / f"diginetica.{part}.inter").write_text(header + "".join(numbered))
    return folder


def otto(folder: Path) -> Path:
    kinds = ("clicks", "carts", "orders")
    histories = _histories()
    lines = [
        json.dumps(
            {
                "session": 12_899_779 + number,
                "events": [
                    {"aid": item, "ts": 1000 * time + item, "type": kinds[item % 3]}
                    for item, time in zip(items, times, strict=True)
                ],
            }
        )
        for number, (items, times) in enumerate(
            zip(histories["items"], histories["times"], strict=True)
        )
    ]
    path = folder / "otto-recsys-test.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def _hm(path: Path, article: str) -> Path:
    return _lines(
        path,
        lambda r: (
            f"{_at(r.time, '%Y-%m-%d')},{r.user:064x},"
            f"{article.format(f'{663713001 + r.item:010}')},0.050830508474576264,2"
        ),
        "t_dat,customer_id,article_id,price,sales_channel_id",
    )


def hm(folder: Path) -> Path:
    return _hm(folder / "transactions_train.csv", "{}")


def hm_quoted(folder: Path) -> Path:
    return _hm(folder / "transactions_train.csv", '"{}"')


def lastfm_1k(folder: Path) -> Path:
    artists = ("Deep Dish", "坂本龍一", "Underworld", "The Blue Nile")
    titles = ('Composure 12" (Live)', '"Heroes"', "Boy, Boy, Boy (Switch Remix)", 'Elysian "Fields')
    return _lines(
        folder / "userid-timestamp-artid-artname-traid-traname.tsv",
        lambda r: (
            f"user_{r.user:06}\t{_at(r.time, '%Y-%m-%dT%H:%M:%SZ')}\t\t{artists[r.item % 4]}\t\t"
            f"{titles[r.item // 3 % 4]} {r.item}"
        ),
    )


def gowalla(folder: Path) -> Path:
    return _lines(
        folder / "Gowalla_totalCheckins.txt",
        lambda r: (
            f"{r.user}\t{_at(r.time, '%Y-%m-%dT%H:%M:%SZ')}\t30.2359091167\t-97.7951395833\t"
            f"{22847 + r.item}"
        ),
    )


def foursquare(folder: Path) -> Path:
    return _lines(
        folder / "dataset_TSMC2014_NYC.txt",
        lambda r: (
            f"{r.user}\t49bbd6c0f964a520f4531{r.item:03x}\t4bf58dd8d48988d127951735\tCafé\t40.7198\t"
            f"-74.0025\t-240\t{_at(r.time, '%a %b %d %H:%M:%S +0000 %Y')}"
        ),
        encoding="latin-1",
    )


def steam_200k(folder: Path) -> Path:
    return _lines(
        folder / "steam-200k.csv",
        lambda r: f'151603{r.user:03},"Warhammer 40,000 {r.item}",purchase,1.0,0',
    )


def globo(folder: Path) -> Path:
    header = "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,"
    header += "click_environment,click_deviceGroup,click_os,click_country,click_region,"
    header += "click_referrer_type\n"
    inner = folder / "clicks"
    inner.mkdir()
    for hour, part in clicks().groupby(clicks()["session"] // 20):
        rows = _rows(
            part,
            lambda r: (
                f"{r.user},15069{r.session:011},{1000 * START},2,{r.item},{1000 * r.time},"
                "4,3,2,1,25,2\n"
            ),
        )
        (inner / f"clicks_hour_{hour:03}.csv").write_text(header + "".join(rows))
    (inner / ".DS_Store").write_bytes(b"\x00\x01")
    return inner


def adressa(folder: Path) -> Path:
    return _lines(
        folder / "20170101",
        lambda r: json.dumps(
            {
                "eventId": r.time,
                "city": "trondheim",
                "userId": f"cx:{r.user:025}",
                "time": r.time,
                "url": f"http://adressa.no/{r.item}.ece",
                "profile": [{"item": "0", "groups": [{"group": "adressa-importance"}]}],
                **({"id": f"{r.item:040x}"} if r.item % 2 else {}),
            }
        ),
    )


def mind(folder: Path) -> Path:
    histories = _histories()
    columns = (histories[name] for name in ("user", "items", "times"))
    rows = [
        f"{number}\tU{user}\t{pd.Timestamp(times[0], unit='s'):%m/%d/%Y %I:%M:%S %p}\t"
        f"{' '.join(f'N{item}' for item in items) if number % 10 else ''}\tN1-0 N2-1"
        for number, (user, items, times) in enumerate(zip(*columns, strict=True), 1)
    ]
    path = folder / "behaviors.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def trivago(folder: Path) -> Path:
    return _lines(
        folder / "train.csv",
        lambda r: (
            f"00RL8Z82B2Z{r.user},aff3928535f{r.session:02},{r.time},{r.position + 1},"
            f"{f'clickout item,{r.item}' if r.item % 5 else 'search for poi,Port de la Saplaya'}"
            ',AU,"Sydney, Australia",mobile,,3400638|1253714,95|66'
        ),
        "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,"
        "current_filters,impressions,prices",
    )


def kuairec(folder: Path) -> Path:
    return _lines(
        folder / "big_matrix.csv",
        lambda r: (
            f"{r.user},{r.item},13838,10867,{_at(r.time, '%Y-%m-%d %H:%M:%S')}.238,"
            f"{_at(r.time, '%Y%m%d')}.0,{r.time}.238,1.273"
        ),
        "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio",
    )


def hive(folder: Path) -> Path:
    frame = clicks().assign(day=pd.to_datetime(clicks()["time"], unit="s").dt.strftime("%Y-%m-%d"))
    for day, part in frame.groupby("day"):
        inner = folder / "log" / f"day={day}"
        inner.mkdir(parents=True)
        part.drop(columns="day").to_parquet(inner / "part-00000.parquet")
    (folder / "log" / "_SUCCESS").write_text("")
    return folder / "log"


def spotify(folder: Path) -> Path:
    return _lines(
        folder / "log_0_20180715_000000000000.csv",
        lambda r: f"0_{r.session:032x},{r.position + 1},20,t_{r.item:032x},true,false,10",
        "session_id,session_position,session_length,track_id_clean,skip_1,skip_2,hour_of_day",
    )


def criteo(folder: Path) -> Path:
    return _lines(
        folder / "criteo_attribution_dataset.tsv.gz",
        lambda r: (
            f"{r.time - START}\t2073{r.user:04}\t225974{r.item:02}\t0\t-1\t-1\t0\t-1\t-1\t1e-5"
        ),
        "timestamp\tuid\tcampaign\tconversion\tconversion_timestamp\tconversion_id\tattribution\t"
        "click_pos\tclick_nb\tcost",
    )


def yelp(folder: Path) -> Path:
    return _lines(
        folder / "yelp_academic_dataset_review.json",
        lambda r: json.dumps(
            {
                "review_id": f"KU_O5udG6zpxOg-{r.time}",
                "user_id": f"mh_-eMZ6K5RLWhZyISBhw{r.user}",
                "business_id": f"XQfwVwDr-v0ZS3_CbbE5X{r.item}",
                "stars": 3.0,
                "text": 'If you "decide" to eat here,\r\n\r\nbe aware.',
                "date": _at(r.time, "%Y-%m-%d %H:%M:%S"),
            }
        ),
    )


def book_crossing(folder: Path) -> Path:
    return _lines(
        folder / "BX-Book-Ratings.csv",
        lambda r: f'"{276725 + r.user}";"0345é510{r.item:02}X";"{r.item % 10}"',
        '"User-ID";"ISBN";"Book-Rating"',
        encoding="latin-1",
    )


def uci_eshop(folder: Path) -> Path:
    header = "year;month;day;order;country;session ID;page 1 (main category);"
    header += "page 2 (clothing model);colour;location;model photography;price;price 2;page"
    rows = _rows(
        clicks(),
        lambda r: (
            f"2008;4;{r.session % 28 + 1};{r.position + 1};29;{r.session};{r.item % 4 + 1};"
            f"A{r.item};{r.item % 14};{r.item % 6};1;{r.item};2;1"
        ),
    )
    with zipfile.ZipFile(folder / "clickstream+data+for+online+shopping.zip", "w") as archive:
        archive.writestr("e-shop data description.txt", "Data description")
        archive.writestr("e-shop clothing 2008.csv", "\r\n".join([header, *rows]))
    return folder / "clickstream+data+for+online+shopping.zip"
