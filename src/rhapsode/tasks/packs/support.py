"""Answers to customers of a shop: what the shop's own rules say, and what its systems say when they are asked.

The shop, its rules and its customers are made up. Calls of tools and their results are turns of the conversation, as in
OpenAI's API. Where no tool is offered, the answer does not pretend that there was one.
"""

import json
from collections.abc import Callable
from typing import Any

from rhapsode.tasks.draw import Draw
from rhapsode.tasks.pack import Pack, Row
from rhapsode.tasks.words import FIRST_NAMES, MONTHS, WEEKDAYS

COLLEAGUE = "I am passing this to a colleague, who will write to you within one working day."
NO_LOOK = (
    "I cannot look into orders from here. Please give your number at brightleaf.example/orders, or ask for a colleague."
)
WHICH = "I will look that up for you. What is the number of your order? It begins with BL."

ITEMS = (
    "bamboo trellis", "bread knife", "cast iron pan", "clay pot", "coffee grinder", "compost bin", "copper kettle",
    "cutting board", "folding chair", "garden hose", "glass cloche", "hedge shears", "herb planter", "kitchen scale",
    "lemon squeezer", "paella pan", "pepper mill", "pruning saw", "rain gauge", "salad bowl", "seed tray", "solar lamp",
    "stone mortar", "tea towel set", "watering can", "wok", "wooden spoon set", "zinc bucket",
)  # fmt: skip
CARRIERS = ("Postline", "Hermod", "Citybike Couriers", "Northvan", "Parcelo")
REASONS = ("a strike at the carrier", "snow on the roads", "a missing customs form", "a fault in our warehouse")
PLACES = ("in the parcel locker", "with the neighbour at number {n}", "behind the garden gate", "at the reception desk")

HELLOS = ("", "", "Hi, ", "Hello, ", "Good morning, ", "Hi there! ", "Sorry to bother you, ", "{name} here. ")
THANKS = ("", "", " Thanks!", " Thank you, {name}.", " Please let me know.", " Best, {name}", " It is rather urgent.")

STATUS = (
    "where is my order {order}?",
    "I ordered a {item} ({order}) and it still has not come.",
    "when will {order} arrive? It is a {item}.",
    "any news of {order}? The {item} is meant as a present for {day}.",
    "my {item} should have been here on {day}. The number is {order}.",
    "could you check {order} for me, I am waiting for the {item}.",
    "has {order} been sent yet?",
    "I was told my {item} would come last {day}, order {order}, but nobody rang.",
    "what is happening with the {item} I bought, {order}?",
)
NO_NUMBER = (
    "where is my {item}?",
    "I have been waiting for the {item} since {day}.",
    "can you tell me when my {item} will be delivered?",
    "my parcel with the {item} has not come. What now?",
    "is the {item} that I ordered last {day} on its way?",
)
NUMBERS = ("It is {order}.", "{order}", "The mail says {order}.", "I think {order}, ordered under {name}.")

RETURNS = {
    "damaged": (
        "the {item} from {order} arrived broken, I want to send it back.",
        "my {item} came with a crack right through it. Order {order}. How do I return it?",
        "I opened {order} and the {item} is bent. Can it go back?",
        "the {item} was smashed in the box ({order}). I would like to return it.",
    ),
    "wrong item": (
        "I ordered a {other} and got a {item} instead, {order}. I want to return it.",
        "you sent me a {item}, but {order} was for a {other}. Please take it back.",
        "in {order} there is a {item} that I never asked for. How can I return it?",
        "wrong thing in the box: a {item} and no {other}. It is order {order}, I am sending it back.",
    ),
    "changed mind": (
        "I do not need the {item} from {order} after all and would like to return it.",
        "the {item} is too large for us. Can I send back {order}?",
        "can I give the {item} back? It is unused, order {order}.",
        "my sister bought the same {item}, so {order} may go back. How?",
    ),
}
STOCK = (
    "do you still have the {item}?",
    "is the {item} in stock? I would need {n}.",
    "could I get a {item} this week?",
    "I see no button to buy the {item}. Is it sold out?",
    "how many of the {item} are left?",
    "we want {n} of the {item} for a party, are there enough?",
)

RULES: dict[str, tuple[tuple[str, ...], str]] = {
    "delivery cost": (
        ("what does delivery cost?", "how much is the shipping for a {item}?", "do I pay postage on a {item}?"),
        "Delivery costs 4.90 euros, and nothing from 60 euros on.",
    ),
    "delivery time": (
        ("how long does delivery take?", "if I order a {item} today, when is it here?", "how fast do you send it?"),
        "We send parcels within two working days, and they are with you one to three days later.",
    ),
    "return time": (
        ("how long may I send things back?", "until when can I return a {item}?", "what is your return period?"),
        "You may return anything unused within 30 days.",
    ),
    "refund": (
        ("when do I get my money back after a return?", "I sent the {item} back. When is the refund made?"),
        "We refund within five working days after the parcel has reached us, the way you paid.",
    ),
    "payment": (
        ("how can I pay?", "can I pay for the {item} by invoice?", "do you take cards?"),
        "You can pay by card, by bank transfer or by invoice.",
    ),
    "abroad": (
        ("do you deliver abroad?", "can you send a {item} to my aunt in Norway?", "do you ship outside the country?"),
        "We deliver to all countries of the European Economic Area. It costs 12 euros and takes about a week.",
    ),
    "gift": (
        ("can you wrap the {item} as a gift?", "is there gift wrapping?", "the {item} is a present, do you wrap?"),
        "Yes, gift wrapping costs 3 euros. Tick the box in the basket and write your card there.",
    ),
    "voucher": (
        ("do vouchers expire?", "how long is my gift voucher valid?", "is last year's voucher good for a {item}?"),
        "Our vouchers are valid for three years from the day they were bought.",
    ),
    "guarantee": (
        ("is there a guarantee on a {item}?", "how long is the guarantee?",
         "my {item} broke after a year. And now?"),
        "There is a guarantee of two years on everything, and of ten years on cast iron.",
    ),
    "hours": (
        ("when is somebody on the telephone?", "what are your opening hours?", "until when can I call you on a {day}?"),
        "You can call us from Monday to Friday between 9 and 17.",
    ),
    "cancel": (
        ("can I cancel an order?", "I ordered the {item} by mistake, can it be cancelled?", "how do I cancel?"),
        "You can cancel under My orders until the parcel is packed. After that, please send it back unopened.",
    ),
    "spare parts": (
        ("do you sell spare parts for the {item}?", "I lost a part of the {item}. Can I buy it alone?"),
        "We keep spare parts for seven years. Please send a photograph of the part to parts@brightleaf.example.",
    ),
}  # fmt: skip
GRAVE: dict[str, tuple[tuple[str, ...], str]] = {
    "safety": (
        (
            "the {item} gave me an electric shock!",
            "my son cut himself because the {item} broke in his hand.",
            "the {item} caught fire yesterday.",
            "there is a burning smell whenever I use the {item}.",
        ),
        "I am sorry to hear this. Please stop using it at once.",
    ),
    "law": (
        (
            "I will take you to court over the {item}.",
            "my lawyer will write to you about the {item}.",
            "I have reported you to the consumer authority because of the {item}.",
        ),
        "I am sorry that it has come to this.",
    ),
    "data": (
        (
            "please delete everything you know about me.",
            "which data do you keep of me since I bought the {item}?",
            "I object to your mails about the {item} and want my data removed.",
        ),
        "You have a right to this.",
    ),
    "person": (
        (
            "I do not want to talk to a machine about my {item}. Give me a person.",
            "let me speak to somebody human about the {item}.",
            "this is the third time I ask about the {item}! I want your manager.",
        ),
        "Of course.",
    ),
}


def _tool(name: str, description: str, **values: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": values, "required": list(values)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    _tool("order_status", "Where an order is.", order={"type": "string"}),
    _tool(
        "start_return",
        "Begin a return.",
        order={"type": "string"},
        reason={"type": "string", "enum": list(RETURNS)},
    ),
    _tool("stock", "How many of an item there are.", item={"type": "string"}),
]


def row(draw: Draw) -> Row:
    kinds: tuple[tuple[Callable[[Draw], Row], int], ...] = (
        (_status, 4), (_without_number, 2), (_return, 4), (_stock, 3), (_rule, 4), (_grave, 2), (_blind, 1),
    )  # fmt: skip
    return draw.one([kind for kind, share in kinds for _ in range(share)])(draw)


def _status(draw: Draw) -> Row:
    order = _order(draw)
    return _row(_said(draw, STATUS, order=order), *_looked_up(draw, order))


def _without_number(draw: Draw) -> Row:
    order = _order(draw)
    asked = [
        _message("assistant", WHICH),
        _message("user", draw.text(NUMBERS, order=order, name=draw.one(FIRST_NAMES))),
    ]
    return _row(_said(draw, NO_NUMBER), *asked, *_looked_up(draw, order))


def _looked_up(draw: Draw, order: str) -> list[Row]:
    day = draw.one(WEEKDAYS)
    found: list[tuple[dict[str, Any], str]] = [
        ({"status": "in preparation", "leaves": day}, f"Order {order} is being packed and leaves us on {day}."),
        ({"error": "no such order"}, f"I find no order {order}. Please check the number in your confirmation."),
    ]
    carrier, reason = draw.one(CARRIERS), draw.one(REASONS)
    found += [
        (
            {"status": "on its way", "carrier": carrier, "arrives": day},
            f"Order {order} is on its way with {carrier} and should be with you on {day}.",
        ),
        (
            {"status": "delayed", "reason": reason, "arrives": day},
            f"I am sorry: order {order} is delayed by {reason}. It should now be with you on {day}.",
        ),
    ]
    place = draw.one(PLACES).format(n=draw.number(2, 60))
    found.append(
        ({"status": "delivered", "on": day, "place": place}, f"Order {order} was delivered on {day}, {place}.")
    )
    return _called("order_status", {"order": order}, *draw.one(found))


def _return(draw: Draw) -> Row:
    reason, questions = draw.pick(RETURNS)
    order, label, until = _order(draw), f"R-{draw.number(1000, 9999)}", f"{draw.number(1, 28)} {draw.one(MONTHS)}"
    asked = _said(draw, questions, order=order)
    if draw.is_one_in(4):
        said = f"Order {order} is more than 30 days old, so I cannot begin a return. {COLLEAGUE}"
        return _row(asked, *_called("start_return", {"order": order, "reason": reason}, {"error": "too old"}, said))
    who = "The postage is yours." if reason == "changed mind" else "I am sorry about this; we pay the postage."
    said = f"Your return is ready: print label {label} and send the parcel by {until}. {who}"
    found = {"label": label, "until": until}
    return _row(asked, *_called("start_return", {"order": order, "reason": reason}, found, said))


def _stock(draw: Draw) -> Row:
    item, count, day = draw.one(ITEMS), draw.number(0, 30), f"{draw.number(1, 28)} {draw.one(MONTHS)}"
    asked = _said(draw, STOCK, item=item)
    if count % 3 == 0:
        said = f"The {item} is sold out. We expect more on {day}."
        return _row(asked, *_called("stock", {"item": item}, {"in_stock": 0, "expected": day}, said))
    return _row(
        asked, *_called("stock", {"item": item}, {"in_stock": count}, f"We have {count} of the {item} in stock.")
    )


def _rule(draw: Draw) -> Row:
    _, (questions, answer) = draw.pick(RULES)
    return _row(_said(draw, questions), _message("assistant", answer), has_tools=draw.is_one_in(3))


def _grave(draw: Draw) -> Row:
    _, (complaints, answer) = draw.pick(GRAVE)
    return _row(_said(draw, complaints), _message("assistant", f"{answer} {COLLEAGUE}"), has_tools=draw.is_one_in(3))


def _blind(draw: Draw) -> Row:
    return _row(_said(draw, STATUS, order=_order(draw)), _message("assistant", NO_LOOK), has_tools=False)


def _order(draw: Draw) -> str:
    return f"BL-{draw.number(10000, 99999)}"


def _said(draw: Draw, questions: tuple[str, ...], *, order: str = "", item: str = "") -> Row:
    item = item or draw.one(ITEMS)
    other = draw.one([one for one in ITEMS if one != item])
    known = {"item": item, "other": other, "order": order, "day": draw.one(WEEKDAYS), "n": str(draw.number(2, 9))}
    text = draw.text(questions, **known)
    hello, thanks, name = draw.one(HELLOS), draw.one(THANKS), draw.one(FIRST_NAMES)
    if not hello or hello.rstrip()[-1] in ".!":
        text = text[0].upper() + text[1:]
    return _message("user", f"{hello}{text}{thanks}".replace("{name}", name))


def _called(name: str, arguments: Row, result: Row, answer: str) -> list[Row]:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": json.dumps(result)},
        _message("assistant", answer),
    ]


def _message(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def _row(*messages: Row, has_tools: bool = True) -> Row:
    row: dict[str, Any] = {"messages": list(messages)}
    return row | {"tools": TOOLS} if has_tools else row


PACK = Pack(
    name="support",
    line="answers customers, with look-ups in your systems and a hand-over to people",
    purpose="Answers customers of a shop from its rules, looks up orders with tools, and hands over what is grave.",
    shape="openai",
    scorers=("f1", "rouge1"),
    max_tokens=96,
    context=768,
    risk="A wrong answer reads like a right one: promises that the shop must keep, or advice where somebody was hurt.",
    review="a sample",
    checks="whatever the model did not hand over although it was about injuries, law, personal data or a promise",
    prompts=("What does delivery cost?", "The copper kettle gave me an electric shock!", "Can I pay by invoice?"),
    own_rows="resolved tickets and chats, with names and numbers taken out, and calls of your systems as tool calls",
    row=row,
    num_rows=360,
    budget="2 epochs",
)
