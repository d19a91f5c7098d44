"""The script of the page: draws the charts from the data that is embedded in it.

It makes elements and sets attributes and text, never markup, so nothing in the data can become
code.
"""

from __future__ import annotations

SCRIPT = r"""
'use strict';
(function () {
  var data = JSON.parse(document.getElementById('data').textContent);
  var drawn = 0;

  function make(parent, name, attributes, text) {
    var node = document.createElementNS('http://www.w3.org/2000/svg', name);
    Object.keys(attributes || {}).forEach(function (key) {
      node.setAttribute(key, attributes[key]);
    });
    if (text !== undefined) { node.textContent = text; }
    parent.appendChild(node);
    return node;
  }

  function canvas(place, width, height, label) {
    place.textContent = '';
    drawn += 1;
    return make(place, 'svg', {
      width: width, height: height, viewBox: '0 0 ' + width + ' ' + height, role: 'img',
      'aria-label': label
    });
  }

  function decibels(item) {
    if (item.db !== null) { return item.db.toFixed(1) + ' dB'; }
    return item.exact ? 'exact' : 'no signal';
  }

  function quality(place) {
    var layers = data.layers, left = 44, top = 22, bottom = 14, height = 250;
    var pitch = Math.max(14, Math.min(90, Math.floor((1150 - left) / layers.length)));
    var width = left + pitch * layers.length + 10;
    var svg = canvas(place, width, height, 'QSNR by layer');
    var known = [10];
    layers.forEach(function (row) {
      [row.alone, row.whole].forEach(function (item) {
        if (item.db !== null) { known.push(item.db); }
      });
    });
    var high = Math.ceil(Math.max.apply(null, known) / 10) * 10;
    var low = Math.min(0, Math.floor(Math.min.apply(null, known) / 10) * 10);
    function y(value) { return top + (high - value) / (high - low) * (height - top - bottom); }
    var pace = high - low > 60 ? 20 : 10;
    for (var level = low; level <= high; level += pace) {
      make(svg, 'line', {x1: left, x2: width - 6, y1: y(level), y2: y(level), 'class': 'grid'});
      make(svg, 'text', {x: left - 6, y: y(level) + 4, 'text-anchor': 'end'}, String(level));
    }
    make(svg, 'text', {x: 4, y: 12}, 'dB');
    function top_of(item) {
      return item.db === null ? (item.exact ? top - 10 : y(low)) : y(item.db);
    }
    var path = '';
    layers.forEach(function (row, index) {
      var x = left + pitch * index;
      if (row.alone.db !== null) {
        make(svg, 'rect', {
          x: x + pitch * 0.18, width: pitch * 0.64, y: Math.min(y(row.alone.db), y(0)),
          height: Math.abs(y(0) - y(row.alone.db)), 'class': 'bar'
        });
      }
      if (row.whole.db !== null) {
        path += (path ? 'L' : 'M') + (x + pitch / 2) + ' ' + y(row.whole.db);
      }
    });
    if (path) { make(svg, 'path', {d: path, 'class': 'whole'}); }
    layers.forEach(function (row, index) {
      var x = left + pitch * index;
      make(svg, 'circle', {
        cx: x + pitch / 2, cy: top_of(row.whole), r: 3.5,
        'class': row.whole.db === null && row.whole.exact ? 'exact' : 'dot'
      });
      var hit = make(svg, 'rect', {
        x: x, y: 0, width: pitch, height: height, 'class': 'hit'
      });
      make(hit, 'title', {}, row.layer + '\nalone ' + decibels(row.alone) +
        '\nin the network ' + decibels(row.whole));
    });
  }

  function histogram(place) {
    var item = data[place.getAttribute('data-kind')][Number(place.getAttribute('data-index'))];
    var width = 270, height = 58, base = height - 2, counts = item.counts;
    var svg = canvas(place, width, height, 'histogram');
    var span = item.width * counts.length;
    function x(value) { return (value - item.low) / span * width; }
    var peak = Math.log(1 + Math.max.apply(null, counts));
    var from = x(item.qmin - 0.5), to = x(item.qmax + 0.5);
    make(svg, 'rect', {x: from, y: 0, width: to - from, height: base, 'class': 'band'});
    counts.forEach(function (count, index) {
      if (!count) { return; }
      var start = item.low + index * item.width, end = start + item.width;
      var tall = Math.max(1.5, Math.log(1 + count) / peak * (base - 4));
      var beyond = end <= item.qmin - 0.5 || start >= item.qmax + 0.5;
      make(svg, 'rect', {
        x: x(start), width: Math.max(x(end) - x(start) - 0.3, 0.5), y: base - tall, height: tall,
        'class': beyond ? 'lost' : 'count'
      });
    });
    make(svg, 'line', {x1: x(0), x2: x(0), y1: 0, y2: base, 'class': 'grid'});
    [from, to].forEach(function (end) {
      make(svg, 'line', {x1: end, x2: end, y1: 0, y2: base, 'class': 'end'});
    });
    make(svg, 'title', {}, 'band: ' + item.qmin + ' to ' + item.qmax + ' in units of ' + item.unit +
      '\nheight: logarithm of the number of values');
  }

  Array.prototype.forEach.call(document.querySelectorAll('[data-chart]'), function (place) {
    (place.getAttribute('data-chart') === 'quality' ? quality : histogram)(place);
  });
  document.documentElement.setAttribute('data-drawn', String(drawn));
}());
"""
